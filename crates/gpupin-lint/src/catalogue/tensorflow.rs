use super::{
    Answer, Api,
    Shape::{Count, Mask, Tail},
    choose, query,
};
use crate::unit::Sureness::Sure;

/// `TensorFlow`, ordered by path. `/GPU:1` counts what is left after `set_visible_devices`.
pub(super) const APIS: &[Api] = &[
    choose("*.gpu_options.visible_device_list").assigned(Mask),
    choose("keras.**.multi_gpu_model").at(1, "gpus", Count),
    choose("tensorflow.**.GPUOptions").key("visible_device_list", Mask),
    choose("tensorflow.**.multi_gpu_model").at(1, "gpus", Count),
    query("tensorflow.compat.v1.Session").freezes(Sure),
    query("tensorflow.config.experimental.get_device_details")
        .freezes(Sure)
        .answers(Answer::Properties),
    query("tensorflow.config.experimental.get_memory_info").at(0, "device", Tail).freezes(Sure),
    choose("tensorflow.config.experimental.list_physical_devices").indexed(),
    query("tensorflow.config.experimental.list_physical_devices")
        .freezes(Sure)
        .answers(Answer::Available),
    query("tensorflow.config.experimental.set_memory_growth").freezes(Sure),
    choose("tensorflow.config.experimental.set_visible_devices").freezes(Sure),
    choose("tensorflow.config.list_logical_devices").indexed(),
    query("tensorflow.config.list_logical_devices").freezes(Sure).answers(Answer::Available),
    choose("tensorflow.config.list_physical_devices").indexed(),
    query("tensorflow.config.list_physical_devices").freezes(Sure).answers(Answer::Available),
    choose("tensorflow.config.set_logical_device_configuration").freezes(Sure),
    choose("tensorflow.config.set_visible_devices").freezes(Sure),
    query("tensorflow.constant").freezes(Sure),
    query("tensorflow.convert_to_tensor").freezes(Sure),
    choose("tensorflow.device").at(0, "device_name", Tail).freezes_on_cuda(),
    choose("tensorflow.distribute.MirroredStrategy").at(0, "devices", Tail).spreads().freezes(Sure),
    choose("tensorflow.distribute.MultiWorkerMirroredStrategy").spreads().freezes(Sure),
    query("tensorflow.ones").freezes(Sure),
    query("tensorflow.random.normal").freezes(Sure),
    query("tensorflow.random.uniform").freezes(Sure),
    query("tensorflow.Session").freezes(Sure),
    query("tensorflow.test.gpu_device_name").freezes(Sure).answers(Answer::Available),
    query("tensorflow.test.is_gpu_available").freezes(Sure).answers(Answer::Available),
    query("tensorflow.Variable").freezes(Sure),
    query("tensorflow.zeros").freezes(Sure),
];
