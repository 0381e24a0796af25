//! Which functions a driver's library has.
//!
//! Programs look what there is and conclude how old the driver is: nvitop tells the layout of process lists from which functions
//! exist, nvtop gives up when one is missing. So a simulated driver has exactly the functions of its generation.

use std::collections::BTreeSet;

use gpupin_policy::DriverVersion;

/// A generation of NVML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The first releases of R535, whose process lists have rows of 32 bytes.
    R535Early,
    /// R535, and what is older.
    R535,
    /// R550.
    R550,
    /// The newest that is known.
    R580,
}

/// What `nm -D` tells of Debian's `libnvidia-ml1` 535.261.03 and 550.163.01, and of the names that a header of R580 adds.
const R535: &str = include_str!("profile/535.txt");
const R550: &str = include_str!("profile/550.txt");
const R580: &str = include_str!("profile/580.txt");

impl Profile {
    /// The one of a driver.
    pub fn of(driver: &DriverVersion) -> Self {
        let minor: Option<u32> = driver.as_str().split('.').nth(1).and_then(|it| it.parse().ok());
        match driver.generation() {
            // From 535.43 on; 535.98 was compatible again. https://github.com/NVIDIA/go-nvml/issues/75
            535 if minor.is_some_and(|it| (43..98).contains(&it)) => Self::R535Early,
            ..545 => Self::R535,
            545..555 => Self::R550,
            _ => Self::R580,
        }
    }

    /// The functions that this generation has.
    pub fn functions(self) -> BTreeSet<&'static str> {
        let list = match self {
            Self::R535Early | Self::R535 => R535,
            Self::R550 => R550,
            Self::R580 => R580,
        };
        let mut functions: BTreeSet<_> = list.lines().collect();
        if self == Self::R535Early {
            functions.remove("nvmlDeviceGetRunningProcessDetailList");
        }
        functions
    }
}

#[cfg(test)]
mod tests {
    use super::Profile;

    #[test]
    fn drivers_have_the_functions_of_their_generation() {
        let check = |driver: &str, profile, function: &str, has| {
            let found = Profile::of(&driver.parse().unwrap());
            assert_eq!(found, profile, "{driver}");
            assert_eq!(found.functions().contains(function), has, "{driver} {function}");
        };
        check("470.256.02", Profile::R535, "nvmlDeviceGetPciInfoExt", false);
        check("535.54.03", Profile::R535Early, "nvmlDeviceGetRunningProcessDetailList", false);
        check("535.261.03", Profile::R535, "nvmlDeviceGetRunningProcessDetailList", true);
        check("550.163.01", Profile::R550, "nvmlDeviceGetPciInfoExt", true);
        check("550.163.01", Profile::R550, "nvmlDeviceGetTemperatureV", false);
        check("580.65.06", Profile::R580, "nvmlDeviceGetTemperatureV", true);
    }
}
