//! What a file with an ordinal other than 0 has in it.

use crate::needle::Needle;

/// What begins a number, or a name that may stand for one.
const NUMBER: &str = "123456789";
const NUMBER_OR_NAME: &str = "123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// A number, or a name that is spelt as a constant: enough for calls that are usually given something else.
const NUMBER_OR_CONSTANT: &str = "123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// What follows `cuda:` where a number other than 0 is written or put in.
const PUT_IN: &str = "123456789{%\"'$";
/// A number, a name, or a list of them.
const INDICES: &str = "[123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// A number alone says nothing, so a call or a name beside it must. Names that only stand for a number
/// count where the call takes little else: `.cuda(gpu)`, but not `.to(device)`.
pub(super) const NEEDLES: &[Needle] = &[
    // Texts.
    Needle::before("cuda:", PUT_IN),
    Needle::before("gpu:", PUT_IN),
    Needle::before("GPU:", PUT_IN),
    Needle::before("\"cuda\", ", NUMBER_OR_CONSTANT),
    Needle::before("'cuda', ", NUMBER_OR_CONSTANT),
    // Calls.
    Needle::before(".cuda(", NUMBER_OR_NAME),
    Needle::before(".to(", NUMBER),
    Needle::before("cuda.device(", NUMBER_OR_CONSTANT),
    Needle::before("torch.device(", NUMBER),
    Needle::before("_allocated(", NUMBER_OR_CONSTANT),
    Needle::before("_reserved(", NUMBER_OR_CONSTANT),
    Needle::before("mem_get_info(", NUMBER_OR_CONSTANT),
    Needle::before("get_device_capability(", NUMBER_OR_CONSTANT),
    Needle::before("get_device_name(", NUMBER_OR_CONSTANT),
    Needle::before("get_device_properties(", NUMBER_OR_CONSTANT),
    Needle::before("getDeviceProperties(", NUMBER_OR_CONSTANT),
    Needle::before("memory_stats(", NUMBER_OR_CONSTANT),
    Needle::before("memory_summary(", NUMBER_OR_CONSTANT),
    Needle::before("synchronize(", NUMBER),
    Needle::before("_stream(", NUMBER),
    Needle::before("rng_state(", NUMBER),
    Needle::before("access_peer(", NUMBER_OR_CONSTANT),
    Needle::before("(index=", NUMBER),
    Needle::before("cuda\", index=", NUMBER_OR_NAME),
    Needle::before("cuda', index=", NUMBER_OR_NAME),
    Needle::before("gpu(", NUMBER_OR_CONSTANT),
    Needle::before("to_empty(", NUMBER),
    Needle::before("Accelerator(", NUMBER),
    Needle::before("Accelerator(id=", NUMBER),
    Needle::before("Device(", NUMBER),
    Needle::before("DeviceInfo(", NUMBER),
    Needle::before("Generator(", NUMBER),
    Needle::before("Stream(", NUMBER),
    Needle::before("MirroredStrategy(", "[("),
    Needle::before("_offload(", NUMBER),
    Needle::before("multi_process_pool(", "[("),
    Needle::before("index_cpu_to_gpu", "(_"),
    Needle::before("devices()[", NUMBER_OR_NAME),
    Needle::new("physical_devices("),
    Needle::new("logical_devices("),
    Needle::new("CUDAPlace("),
    Needle::new("cuDeviceGet("),
    Needle::new("cuda.Device("),
    Needle::new("cuda.gpus"),
    Needle::new("CudaDevice("),
    Needle::new("etDevice("),
    Needle::new("select_device("),
    Needle::new("set_active_gpu("),
    Needle::before("set_device(", NUMBER_OR_NAME),
    Needle::new("set_device_i"),
    Needle::before("set_default_device(", NUMBER_OR_NAME),
    Needle::new("visible_device_list"),
    // Arguments.
    Needle::before("destination=", NUMBER),
    Needle::before("device=", NUMBER),
    Needle::before("device = ", NUMBER),
    Needle::before("device_id=", NUMBER_OR_NAME),
    Needle::before("device_id\": ", NUMBER_OR_NAME),
    Needle::before("device_id': ", NUMBER_OR_NAME),
    Needle::before("device_map=", "{"),
    Needle::before("device_map = ", "{"),
    Needle::before("devices=", "[(\"'"),
    Needle::before("gpus=", "[(\"'"),
    Needle::before("map_location=", NUMBER),
    Needle::before("max_memory=", "{"),
    Needle::before("max_memory = ", "{"),
    Needle::before("run_opts=", "{"),
    Needle::before("device_ids=", "[("),
    Needle::before("device_ids = ", "[("),
    Needle::before("device_ids\": ", "[("),
    Needle::new("device_ids").not_in_python(),
    Needle::before("device_index=", INDICES),
    Needle::before("device_index\": ", INDICES),
    Needle::new("output_device"),
    // Names that say GPU.
    Needle::new("gpu_id"),
    Needle::new("gpu_ind"),
    Needle::new("gpu_device"),
    Needle::new("gpu_ord"),
    Needle::new("gpu-id"),
    Needle::new("gpu-ind"),
    Needle::new("gpu-device"),
    Needle::new("gpu-ord"),
    Needle::new("gpuId"),
    Needle::new("GpuId"),
    Needle::new("gpuInd"),
    Needle::new("GpuInd"),
    Needle::new("gpuDevice"),
    Needle::new("GpuDevice"),
    Needle::new("gpuOrd"),
    Needle::new("GpuOrd"),
    Needle::new("GPU_ID"),
    Needle::new("GPU_IND"),
    Needle::new("GPU_DEVICE"),
    Needle::new("GPU_ORD"),
    Needle::new("cuda_id"),
    Needle::new("cuda_ind"),
    Needle::new("cuda_device"),
    Needle::new("cuda_ord"),
    Needle::new("cuda-id"),
    Needle::new("cuda-ind"),
    Needle::new("cuda-device"),
    Needle::new("cuda-ord"),
    Needle::new("cudaId"),
    Needle::new("CudaId"),
    Needle::new("cudaInd"),
    Needle::new("CudaInd"),
    Needle::new("cudaDevice"),
    Needle::new("CudaDevice"),
    Needle::new("cudaOrd"),
    Needle::new("CudaOrd"),
    Needle::new("CUDA_ID"),
    Needle::new("CUDA_IND"),
    Needle::new("CUDA_DEVICE"),
    Needle::new("CUDA_ORD"),
    Needle::before("gpuid", "=: _s\"'"),
    Needle::new("main_gpu"),
    Needle::new("main-gpu"),
    Needle::new("MAIN_GPU"),
    Needle::new("primary_gpu"),
    Needle::new("target_gpu"),
    Needle::new("default_gpu"),
];

#[cfg(test)]
mod tests {
    use super::NEEDLES;
    use crate::catalogue::{Api, Form, Numbering, Shape, apis};

    /// Ways to say ordinal 1 to an API, as people write them.
    fn examples(api: &Api) -> Vec<String> {
        let name = api.path.rsplit_once(".**.").map_or(api.path, |it| it.1);
        let name = name.replace("*.", "x.");
        match api.form {
            Form::Index if name.ends_with("gpus") => return vec![format!("{name}[1]")],
            Form::Index => return vec![format!("{name}()[1]")],
            Form::Assignment => return vec![format!("{name} = 1")],
            Form::Call => {}
        }
        let mut examples = Vec::new();
        for argument in api.arguments() {
            let value = match argument.shape {
                Shape::Device if argument.keyword.ends_with('s') => "[1]",
                Shape::Device | Shape::Number => "1",
                Shape::Kind => "\"cuda:1\"",
                Shape::DeviceMap | Shape::Keys => "{1: 1}",
                Shape::Devices => "[1]",
                Shape::Mask => "\"1\"",
                Shape::Tail => "\"gpu:1\"",
                Shape::Providers => "[(\"CUDAExecutionProvider\", {\"device_id\": 1})]",
                Shape::Count | Shape::Shares | Shape::Strategy | Shape::Uses => continue,
            };
            if !argument.keyword.is_empty() {
                examples.push(format!("{name}({}={value})", argument.keyword));
            }
            if argument.position == Some(0) {
                examples.push(format!("{name}({value})"));
            }
        }
        examples
    }

    #[test]
    fn every_api_of_the_catalogue_is_found() {
        let ordinals = apis().filter(|it| it.numbering == Numbering::Ordinal);
        let missed: Vec<_> = ordinals
            .flat_map(examples)
            .filter(|text| !NEEDLES.iter().any(|it| it.is_in(text)))
            .collect();
        assert!(missed.is_empty(), "no needle is in {missed:#?}");
    }
}
