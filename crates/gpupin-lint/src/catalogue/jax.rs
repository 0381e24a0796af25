use super::{Answer, Api, Shape::Device, choose, query};
use crate::unit::Sureness::Sure;

/// JAX, ordered by path. The backend starts at the first question about devices.
pub(super) const APIS: &[Api] = &[
    query("jax.default_backend").freezes(Sure).answers(Answer::Available),
    query("jax.device_count").freezes(Sure).answers(Answer::Count),
    query("jax.device_put").freezes(Sure),
    choose("jax.devices").indexed(),
    query("jax.devices").freezes(Sure).answers(Answer::Available),
    choose("jax.distributed.initialize").key("local_device_ids", Device),
    query("jax.lib.xla_bridge.get_backend").freezes(Sure),
    query("jax.local_device_count").freezes(Sure).answers(Answer::Count),
    choose("jax.local_devices").indexed(),
    query("jax.local_devices").freezes(Sure).answers(Answer::Available),
    query("jax.numpy.arange").freezes(Sure),
    query("jax.numpy.array").freezes(Sure),
    query("jax.numpy.asarray").freezes(Sure),
    query("jax.numpy.ones").freezes(Sure),
    query("jax.numpy.zeros").freezes(Sure),
    choose("jax.pmap").key("devices", Device).spreads().freezes(Sure),
    choose("jax.random.PRNGKey").freezes(Sure),
];
