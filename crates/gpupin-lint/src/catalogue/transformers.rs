use super::{
    Answer, Api,
    Shape::{Device, DeviceMap, Keys},
    choose, query,
};
use crate::unit::Sureness::Sure;

/// Hugging Face's model libraries: transformers, diffusers, sentence-transformers. Ordered by path.
///
/// `device_map` is a keyword of so many loaders (`from_pretrained`, `load_in_4bit` wrappers) that it counts
/// for a method of any object.
pub(super) const APIS: &[Api] = &[
    choose("*.enable_model_cpu_offload")
        .at(0, "gpu_id", Device)
        .key("device", Device)
        .freezes(Sure),
    choose("*.enable_sequential_cpu_offload")
        .at(0, "gpu_id", Device)
        .key("device", Device)
        .freezes(Sure),
    choose("*.encode_multi_process").key("target_devices", Device),
    choose("*.from_pretrained")
        .key("device_map", DeviceMap)
        .key("max_memory", Keys)
        .key("device", Device)
        .freezes_on_cuda(),
    choose("*.start_multi_process_pool").at(0, "target_devices", Device),
    choose("optimum.**.pipeline")
        .key("device", Device)
        .key("device_map", DeviceMap)
        .freezes_on_cuda(),
    choose("sentence_transformers.**.CrossEncoder").key("device", Device).freezes_on_cuda(),
    choose("sentence_transformers.**.SentenceTransformer").key("device", Device).freezes_on_cuda(),
    choose("sentence_transformers.**.SparseEncoder").key("device", Device).freezes_on_cuda(),
    query("transformers.**.is_torch_cuda_available").freezes(Sure).answers(Answer::Available),
    choose("transformers.**.pipeline")
        .key("device", Device)
        .key("device_map", DeviceMap)
        .freezes_on_cuda(),
];
