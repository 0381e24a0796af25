use super::{
    Api,
    Shape::{Count, Device, Providers, Shares},
    choose,
};
use crate::unit::Sureness::{Sure, Uncertain};

/// Engines that serve models: ONNX Runtime, llama.cpp, vLLM, `SGLang`, `ExLlama`, `TensorRT`, Triton. Ordered by path.
pub(super) const APIS: &[Api] = &[
    choose("*.set_providers").at(0, "providers", Providers).at(1, "provider_options", Providers),
    choose("llama_cpp.**.Llama").key("main_gpu", Device).key("tensor_split", Shares).freezes(Sure),
    choose("lmdeploy.**.TurbomindEngineConfig").key("tp", Count),
    choose("max.**.Accelerator").at(0, "id", Device).freezes(Sure),
    choose("onnxruntime.InferenceSession")
        .at(2, "providers", Providers)
        .at(3, "provider_options", Providers)
        .freezes_on_cuda(),
    choose("onnxruntime.OrtValue.ortvalue_from_numpy").at(2, "device_id", Device),
    choose("onnxruntime.OrtValue.ortvalue_from_shape_and_type").at(3, "device_id", Device),
    choose("rembg.new_session").at(1, "providers", Providers),
    choose("sglang.**.Engine")
        .key("base_gpu_id", Device)
        .key("tp_size", Count)
        .key("dp_size", Count),
    choose("sglang.**.ServerArgs").key("base_gpu_id", Device).key("tp_size", Count),
    choose("tensorrt_llm.**.LLM").key("tensor_parallel_size", Count),
    choose("vllm.**.AsyncEngineArgs")
        .key("tensor_parallel_size", Count)
        .key("pipeline_parallel_size", Count)
        .key("device", Device),
    choose("vllm.**.EngineArgs")
        .key("tensor_parallel_size", Count)
        .key("pipeline_parallel_size", Count)
        .key("device", Device),
    choose("vllm.**.LLM")
        .key("tensor_parallel_size", Count)
        .key("pipeline_parallel_size", Count)
        .key("device", Device)
        .freezes(Uncertain),
];
