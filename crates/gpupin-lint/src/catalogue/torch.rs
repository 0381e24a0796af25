use super::{
    Answer, Api, Numbering,
    Shape::{Device, Number},
    choose, query,
};
use crate::unit::Sureness::{Sure, Uncertain};

/// `PyTorch`, ordered by path. Ordinals count behind the mask.
///
/// The helpers that ask NVML (`torch.cuda.utilization`, `temperature` …) take an ordinal and map it through the
/// mask as if NVML's order were CUDA's, so they are queries whose number is an index.
pub(super) const APIS: &[Api] = &[
    choose("*.cuda").device(0, "device").freezes(Sure),
    choose("*.to").device(0, "device").freezes_on_cuda(),
    choose("*.to_empty").device(0, "device").freezes_on_cuda(),
    query("torch.accelerator.current_device_index").freezes(Sure),
    query("torch.accelerator.device_count").answers(Answer::Count),
    query("torch.accelerator.is_available").freezes(Sure).answers(Answer::Available),
    query("torch.accelerator.memory_allocated").device(0, "device_index"),
    query("torch.accelerator.memory_reserved").device(0, "device_index"),
    choose("torch.accelerator.set_device_idx").device(0, "device").freezes(Sure),
    choose("torch.accelerator.set_device_index").device(0, "device").freezes(Sure),
    query("torch.accelerator.synchronize").device(0, "device").freezes(Sure),
    query("torch.amp.GradScaler").freezes(Sure),
    query("torch.backends.cudnn.version").freezes(Sure),
    // From PyTorch 2 on the wrapper asks the GPU when it is made, not at the first call.
    query("torch.compile").freezes(Uncertain),
    query("torch.cuda.amp.GradScaler").freezes(Sure),
    query("torch.cuda.can_device_access_peer")
        .device(0, "device")
        .device(1, "peer_device")
        .freezes(Sure),
    query("torch.cuda.clock_rate").device(0, "device").freezes(Sure).counts(Numbering::Nvml),
    choose("torch.cuda.comm.broadcast").device(1, "devices").freezes(Sure),
    choose("torch.cuda.comm.gather").at(2, "destination", Device).freezes(Sure),
    choose("torch.cuda.comm.scatter").device(1, "devices").freezes(Sure),
    query("torch.cuda.current_device").freezes(Sure),
    query("torch.cuda.current_stream").device(0, "device").freezes(Sure),
    query("torch.cuda.default_stream").device(0, "device").freezes(Sure),
    choose("torch.cuda.device").device(0, "device").freezes(Sure),
    // Asks NVML while that works and the mask names no MIG instance.
    query("torch.cuda.device_count").answers(Answer::Count),
    query("torch.cuda.device_memory_used")
        .device(0, "device")
        .freezes(Sure)
        .counts(Numbering::Nvml),
    choose("torch.cuda.device_of").freezes(Sure),
    query("torch.cuda.get_arch_list").freezes(Sure),
    query("torch.cuda.get_device_capability")
        .device(0, "device")
        .freezes(Sure)
        .answers(Answer::Capability),
    query("torch.cuda.get_device_name").device(0, "device").freezes(Sure).answers(Answer::Name),
    query("torch.cuda.get_device_properties")
        .device(0, "device")
        .freezes(Sure)
        .answers(Answer::Properties),
    query("torch.cuda.get_rng_state").device(0, "device").freezes(Sure),
    choose("torch.cuda.init").freezes(Sure),
    query("torch.cuda.ipc_collect").freezes(Sure),
    query("torch.cuda.is_available").freezes(Sure).answers(Answer::Available),
    query("torch.cuda.is_bf16_supported").freezes(Sure),
    query("torch.cuda.list_gpu_processes")
        .device(0, "device")
        .freezes(Sure)
        .counts(Numbering::Nvml),
    query("torch.cuda.max_memory_allocated").device(0, "device"),
    query("torch.cuda.max_memory_reserved").device(0, "device"),
    query("torch.cuda.mem_get_info").device(0, "device").freezes(Sure).answers(Answer::Memory),
    query("torch.cuda.memory._record_memory_history").freezes(Sure),
    query("torch.cuda.memory_allocated").device(0, "device"),
    query("torch.cuda.memory_reserved").device(0, "device"),
    query("torch.cuda.memory_snapshot"),
    query("torch.cuda.memory_stats").device(0, "device"),
    query("torch.cuda.memory_summary").device(0, "device").freezes(Sure),
    query("torch.cuda.memory_usage").device(0, "device").freezes(Sure).counts(Numbering::Nvml),
    query("torch.cuda.power_draw").device(0, "device").freezes(Sure).counts(Numbering::Nvml),
    query("torch.cuda.reset_max_memory_allocated").device(0, "device").freezes(Sure),
    query("torch.cuda.reset_peak_memory_stats").device(0, "device").freezes(Sure),
    choose("torch.cuda.set_device").device(0, "device").freezes(Sure),
    choose("torch.cuda.set_per_process_memory_fraction").device(1, "device").freezes(Sure),
    choose("torch.cuda.set_rng_state").device(1, "device").freezes(Sure),
    choose("torch.cuda.Stream").device(0, "device").freezes(Sure),
    query("torch.cuda.synchronize").device(0, "device").freezes(Sure),
    query("torch.cuda.temperature").device(0, "device").freezes(Sure).counts(Numbering::Nvml),
    query("torch.cuda.utilization").device(0, "device").freezes(Sure).counts(Numbering::Nvml),
    // Making the object touches no GPU.
    choose("torch.device").at(0, "device", Number).at(1, "index", Device).names(),
    choose("torch.Generator").device(0, "device").freezes_on_cuda(),
    choose("torch.load").at(1, "map_location", Device).freezes_on_cuda(),
    choose("torch.nn.DataParallel")
        .at(1, "device_ids", Device)
        .device(2, "output_device")
        .spreads()
        .freezes(Sure),
    choose("torch.nn.parallel.**.data_parallel")
        .at(2, "device_ids", Device)
        .device(3, "output_device")
        .spreads()
        .freezes(Sure),
    choose("torch.nn.parallel.**.DataParallel")
        .at(1, "device_ids", Device)
        .device(2, "output_device")
        .spreads()
        .freezes(Sure),
    choose("torch.nn.parallel.**.DistributedDataParallel")
        .at(1, "device_ids", Device)
        .device(2, "output_device")
        .freezes(Sure),
    choose("torch.set_default_device").device(0, "device"),
    choose("torch.Tensor.cuda").device(0, "device").freezes(Sure),
    choose("torch.utils.data.DataLoader").key("pin_memory_device", Device),
    choose("torch_tensorrt.Device").key("gpu_id", Device).freezes(Sure),
];
