use super::{
    Answer, Api, Numbering,
    Shape::{Device, Mask},
    query,
};

/// What looks at GPUs by NVML's numbers, ordered by path. None of these reads the mask, and none freezes it.
pub(super) const APIS: &[Api] = &[
    query("gpustat.**.new_query").answers(Answer::NvmlObjects),
    query("GPUtil.getAvailable").answers(Answer::NvmlIndices),
    query("GPUtil.getFirstAvailable").answers(Answer::NvmlIndices),
    query("GPUtil.getGPUs").answers(Answer::NvmlObjects),
    query("nvidia_smi.nvmlDeviceGetCount").answers(Answer::NvmlCount),
    query("nvidia_smi.nvmlDeviceGetHandleByIndex").at(0, "index", Device).counts(Numbering::Nvml),
    query("nvitop.**.CudaDevice").at(0, "cuda_index", Device),
    query("nvitop.**.Device").at(0, "index", Device).counts(Numbering::Nvml),
    query("nvitop.**.Device.all").answers(Answer::NvmlObjects),
    query("nvitop.**.select_devices").answers(Answer::NvmlIndices),
    query("py3nvml.**.grab_gpus").key("gpu_select", Mask).counts(Numbering::Nvml),
    query("py3nvml.**.nvmlDeviceGetCount").answers(Answer::NvmlCount),
    query("py3nvml.**.nvmlDeviceGetHandleByIndex").at(0, "index", Device).counts(Numbering::Nvml),
    query("pynvml.**.nvmlDeviceGetCount").answers(Answer::NvmlCount),
    query("pynvml.**.nvmlDeviceGetHandleByIndex").at(0, "index", Device).counts(Numbering::Nvml),
    query("pynvml.**.nvmlDeviceGetHandleByPciBusId").answers(Answer::Identity),
    query("pynvml.**.nvmlDeviceGetHandleByUUID").answers(Answer::Identity),
    query("pynvml.**.nvmlDeviceGetName").answers(Answer::Name),
    query("pynvml.**.nvmlDeviceGetUUID").answers(Answer::Identity),
];
