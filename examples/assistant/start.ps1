# Starts the assistant on Windows.
param([string]$Config = "config\assistant.yaml")

$ErrorActionPreference = "Stop"
Set-Location $PSScriptRoot

# Task Manager shows the RTX 3090 as GPU 1
$env:CUDA_VISIBLE_DEVICES = "1"
$env:PYTORCH_CUDA_ALLOC_CONF = "max_split_size_mb:1024,expandable_segment:True"
$env:ASSISTANT_CONFIG = $Config

Write-Host "Starting on GPU $env:CUDA_VISIBLE_DEVICES"
& .\.venv\Scripts\python.exe -m assistant
exit $LASTEXITCODE
