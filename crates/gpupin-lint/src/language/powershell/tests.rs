use crate::language::tests::check;

#[test]
fn variables_of_the_environment_reach_children() {
    check(
        "a.ps1",
        "param([string]$Config = \"c\", [int]$Gpu = 1)\r\n$env:CUDA_VISIBLE_DEVICES = \"1\"\r\n${env:B} = 'x'\r\n$id = 2\r\n$env:C = $Gpu\r\n$env:D = $Config2\r\n$env:E = 0\r\n& .\\.venv\\Scripts\\python.exe -m assistant --device \"cuda:$id\"\r\npython scripts\\x.py\r\n",
        r#"
        set CUDA_VISIBLE_DEVICES = "1"‹"1"› Assign Process
        set B = "x"‹'x'› Assign Process
        set C = default "1"‹$Gpu› Assign Process
        set D = Unknown‹$Config2› Assign Process
        set E = "0" Assign Process
        start PythonModule("assistant")
        choose --device 2‹"cuda:$id"› Ordinal Choose
        start PythonFile("scripts/x.py")
        "#,
    );
}

#[test]
fn variables_are_removed_in_several_ways() {
    check(
        "a.ps1",
        "Remove-Item Env:A -ErrorAction SilentlyContinue\n$env:B = $null\n$env:C = ''\nRemove-Item -Path Env:\\D\nRemove-Item x.txt\n",
        "
        unset A
        unset B
        unset C
        unset D
        ",
    );
}

#[test]
fn later_sessions_are_told_from_this_one() {
    check(
        "a.ps1",
        "setx CUDA_VISIBLE_DEVICES 1\n[Environment]::SetEnvironmentVariable(\"CUDA_VISIBLE_DEVICES\", \"1\", \"User\")\n[System.Environment]::SetEnvironmentVariable('A', '2')\n[Environment]::SetEnvironmentVariable('B', '3', [EnvironmentVariableTarget]::Process)\nSet-Item -Path Env:C -Value 4\n",
        r#"
        set CUDA_VISIBLE_DEVICES = "1" Persistent Process
        set CUDA_VISIBLE_DEVICES = "1"‹"1"› Persistent Process
        set A = "2"‹'2'› Assign Process
        set B = "3"‹'3'› Assign Process
        set C = "4" Assign Process
        "#,
    );
}

#[test]
fn branches_loops_and_functions_keep_their_order() {
    check(
        "a.ps1",
        "if (-not $env:X) { $env:X = '0' } elseif (Test-Path Env:Y) { $env:X = '1' } else { Remove-Item Env:X }\nforeach ($i in 0, 1) { $env:Y = $i; python y.py }\nfunction Go { python z.py }\nGo\ntry { python a.py } catch { exit 1 }\nStart-Process -FilePath python -ArgumentList \"x.py\", \"--gpu-id\", \"1\" -Wait\nStart-Job { python j.py }\nexit $LASTEXITCODE\n",
        r#"
        if X is set
          if Y is set
            set X = "1"‹'1'› Assign Process
          or
            unset X
        or
          set X = "0"‹'0'› Assign Process
        loop
          set Y = one of ["0" "1"]‹$i› Assign Process
          start PythonFile("y.py")
        call Go
        try
          start PythonFile("a.py")
        catch
          leave Exit
        start PythonFile("x.py")
        choose --gpu-id 1 Ordinal Setting
        scope
          start PythonFile("j.py")
        leave Exit
        fn Go:
          start PythonFile("z.py")
        "#,
    );
}

#[test]
fn comments_and_here_strings_are_no_code() {
    check(
        "a.ps1",
        "<# $env:A = 1 #>\n# $env:B = 2\n$t = @\"\n$env:C = 3\n\"@\nWrite-Host \"GPU $env:CUDA_VISIBLE_DEVICES\"\n$env:D = '4' # gpupin: ignore[GP103] r\n",
        r#"
        set D = "4"‹'4'› Assign Process
        ignore GP103 in ‹$env:D = '4' # gpupin: ignore[GP103] r›
        "#,
    );
}
