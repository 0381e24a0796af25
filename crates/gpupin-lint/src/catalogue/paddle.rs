use super::{
    Answer, Api,
    Shape::{Device, Tail},
    choose, query,
};
use crate::unit::Sureness::Sure;

/// Paddle, ordered by path. Its numbers are ordinals of the visible GPUs.
pub(super) const APIS: &[Api] = &[
    choose("paddle.CUDAPlace").at(0, "", Device),
    query("paddle.device.cuda.device_count").freezes(Sure).answers(Answer::Count),
    query("paddle.device.cuda.get_device_name")
        .at(0, "device", Device)
        .freezes(Sure)
        .answers(Answer::Name),
    query("paddle.device.cuda.get_device_properties")
        .at(0, "device", Device)
        .freezes(Sure)
        .answers(Answer::Properties),
    choose("paddle.device.set_device").at(0, "device", Tail).freezes_on_cuda(),
    choose("paddle.fluid.CUDAPlace").at(0, "", Device),
    choose("paddle.set_device").at(0, "device", Tail).freezes_on_cuda(),
    choose("paddle.to_tensor").key("place", Tail).freezes_on_cuda(),
    choose("paddleocr.**.PaddleOCR").key("gpu_id", Device).key("device", Tail).freezes_on_cuda(),
];
