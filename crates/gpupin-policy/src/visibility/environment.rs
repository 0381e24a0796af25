/// The variables that decide which GPUs a process sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `CUDA_VISIBLE_DEVICES`. Unset and empty are different: all GPUs, and none.
    pub cuda_visible_devices: Option<String>,
    /// `CUDA_DEVICE_ORDER`.
    pub cuda_device_order: Option<String>,
    /// `NVIDIA_VISIBLE_DEVICES`, what the container runtime was given when it made the container.
    ///
    /// Only meaningful for a process in a container on the machine of the inventory. A process
    /// that sets it for itself changes nothing, and an inventory taken inside the container has
    /// the filter applied already; leave it `None` in both cases.
    pub nvidia_visible_devices: Option<String>,
}

impl Environment {
    /// Picks the variables that matter. The last of two equal names wins.
    pub fn from_pairs<K: AsRef<str>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut environment = Self::default();
        for (name, value) in pairs {
            let variable = match name.as_ref() {
                "CUDA_VISIBLE_DEVICES" => &mut environment.cuda_visible_devices,
                "CUDA_DEVICE_ORDER" => &mut environment.cuda_device_order,
                "NVIDIA_VISIBLE_DEVICES" => &mut environment.nvidia_visible_devices,
                _ => continue,
            };
            *variable = Some(value.into());
        }
        environment
    }
}
