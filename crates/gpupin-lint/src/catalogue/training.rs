use super::{
    Api,
    Shape::{Count, Device, DeviceMap, Devices, Keys, Strategy},
    choose, query,
};
use crate::unit::Sureness::{Sure, Uncertain};

/// What trains: Lightning, accelerate, deepspeed, Ignite, Ray, Ultralytics, stable-baselines. Ordered by path.
pub(super) const APIS: &[Api] = &[
    query("accelerate.**.Accelerator").freezes(Sure),
    choose("accelerate.**.cpu_offload").key("execution_device", Device),
    choose("accelerate.**.dispatch_model").at(1, "device_map", DeviceMap).freezes(Sure),
    choose("accelerate.**.load_and_quantize_model")
        .at(3, "device_map", DeviceMap)
        .at(5, "max_memory", Keys)
        .freezes(Sure),
    choose("accelerate.**.load_checkpoint_and_dispatch")
        .at(2, "device_map", DeviceMap)
        .at(3, "max_memory", Keys)
        .freezes(Sure),
    choose("accelerate.**.notebook_launcher").at(2, "num_processes", Count),
    query("accelerate.**.PartialState").freezes(Sure),
    choose("deepspeed.**.init_inference").key("tensor_parallel", Count).key("mp_size", Count),
    choose("lightning.**.Fabric").at(1, "strategy", Strategy).at(2, "devices", Devices),
    query("lightning.**.find_usable_cuda_devices").freezes(Sure),
    choose("lightning.**.Trainer")
        .key("devices", Devices)
        .key("gpus", Devices)
        .key("strategy", Strategy),
    choose("lightning_fabric.**.Fabric").at(1, "strategy", Strategy).at(2, "devices", Devices),
    choose("pytorch_lightning.**.Trainer")
        .key("devices", Devices)
        .key("gpus", Devices)
        .key("strategy", Strategy),
    choose("stable_baselines3.**.PPO").key("device", Device).freezes_on_cuda(),
    choose("stanza.Pipeline").key("device", Device),
    query("transformers.**.Trainer").freezes(Uncertain),
    query("transformers.**.TrainingArguments").freezes(Sure),
];
