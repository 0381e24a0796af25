use std::{fmt, str::FromStr};

use crate::{
    identity::{ComputeCapability, PciAddress},
    inventory::{Gpu, Inventory, short_name},
    value::{Bytes, InvalidValue},
};

/// A predicate on GPUs. A GPU matches when every condition given holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub name: Option<NamePattern>,
    pub uuid: Option<UuidPrefix>,
    pub pci: Option<PciAddress>,
    pub min_vram: Option<Bytes>,
    pub max_vram: Option<Bytes>,
    pub min_compute_capability: Option<ComputeCapability>,
    pub max_compute_capability: Option<ComputeCapability>,
    /// How many GPUs are wanted.
    pub count: u32,
}

impl Default for Selector {
    /// Any one GPU.
    fn default() -> Self {
        Self {
            name: None,
            uuid: None,
            pci: None,
            min_vram: None,
            max_vram: None,
            min_compute_capability: None,
            max_compute_capability: None,
            count: 1,
        }
    }
}

impl Selector {
    /// Whether every condition holds for `gpu`.
    pub fn matches(&self, gpu: &Gpu) -> bool {
        self.explain(gpu).is_empty()
    }

    /// The conditions that exclude `gpu`; none if it matches.
    pub fn explain(&self, gpu: &Gpu) -> Vec<Mismatch> {
        let Self {
            name,
            uuid,
            pci,
            min_vram,
            max_vram,
            min_compute_capability,
            max_compute_capability,
            count: _,
        } = self;
        let excluding = [
            name.as_ref()
                .filter(|it| !it.matches(&gpu.name))
                .map(|it| Mismatch::Name { wanted: it.clone(), actual: gpu.short_name() }),
            uuid.as_ref()
                .filter(|it| !it.matches(gpu.uuid.as_str()))
                .map(|it| Mismatch::Uuid { wanted: it.clone(), actual: gpu.uuid.to_string() }),
            pci.filter(|it| *it != gpu.pci).map(|wanted| Mismatch::Pci { wanted, actual: gpu.pci }),
            min_vram
                .filter(|it| gpu.vram < *it)
                .map(|wanted| Mismatch::TooLittleVram { wanted, actual: gpu.vram }),
            max_vram
                .filter(|it| gpu.vram > *it)
                .map(|wanted| Mismatch::TooMuchVram { wanted, actual: gpu.vram }),
            min_compute_capability.filter(|it| gpu.compute_capability < *it).map(|wanted| {
                Mismatch::TooLowCapability { wanted, actual: gpu.compute_capability }
            }),
            max_compute_capability.filter(|it| gpu.compute_capability > *it).map(|wanted| {
                Mismatch::TooHighCapability { wanted, actual: gpu.compute_capability }
            }),
        ];
        excluding.into_iter().flatten().collect()
    }

    /// Sorts the usable GPUs of a machine into those that match and those that do not.
    pub fn select<'a>(&'a self, inventory: &'a Inventory) -> Selection<'a> {
        let mut selection = Selection { selector: self, matching: vec![], excluded: vec![] };
        for gpu in inventory.usable() {
            let mismatches = self.explain(gpu);
            if mismatches.is_empty() {
                selection.matching.push(gpu);
            } else {
                selection.excluded.push((gpu, mismatches));
            }
        }
        selection
    }

    /// Whether every GPU that matches matches `other` too, as far as the conditions alone tell.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        fn implied<T>(wanted: Option<T>, by: Option<T>, holds: fn(&T, &T) -> bool) -> bool {
            wanted.is_none_or(|wanted| by.is_some_and(|it| holds(&it, &wanted)))
        }
        implied(other.name.as_ref(), self.name.as_ref(), |it, other| it.is_same(other))
            && implied(other.uuid.as_ref(), self.uuid.as_ref(), |it, other| {
                other.matches(it.as_str())
            })
            && implied(other.pci, self.pci, PciAddress::eq)
            && implied(other.min_vram, self.min_vram, Bytes::ge)
            && implied(other.max_vram, self.max_vram, Bytes::le)
            && implied(
                other.min_compute_capability,
                self.min_compute_capability,
                ComputeCapability::ge,
            )
            && implied(
                other.max_compute_capability,
                self.max_compute_capability,
                ComputeCapability::le,
            )
    }

    /// Whether there is no condition, so that every GPU matches.
    pub fn is_unconditional(&self) -> bool {
        *self == Self { count: self.count, ..Self::default() }
    }
}

impl fmt::Display for Selector {
    /// Names the GPU in a message: `RTX 3090 with at least 20 GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count > 1 {
            write!(f, "{} × ", self.count)?;
        }
        match &self.name {
            Some(name) => write!(f, "{name}")?,
            None => f.write_str("any GPU")?,
        }
        let Self { name: _, uuid, pci, count: _, .. } = self;
        let conditions = [
            uuid.as_ref().map(|it| format!("UUID {it}")),
            pci.map(|it| format!("PCI address {it}")),
            self.min_vram.map(|it| format!("at least {it}")),
            self.max_vram.map(|it| format!("at most {it}")),
            self.min_compute_capability.map(|it| format!("compute capability {it} or higher")),
            self.max_compute_capability.map(|it| format!("compute capability {it} or lower")),
        ];
        for (index, condition) in conditions.into_iter().flatten().enumerate() {
            f.write_str(if index == 0 { " with " } else { ", " })?;
            f.write_str(&condition)?;
        }
        Ok(())
    }
}

/// The outcome of asking a machine for the GPUs of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection<'a> {
    pub selector: &'a Selector,
    /// The GPUs that match, in the order of the inventory. With twins there are more than wanted.
    pub matching: Vec<&'a Gpu>,
    /// The other GPUs, each with the conditions that exclude it.
    pub excluded: Vec<(&'a Gpu, Vec<Mismatch>)>,
}

impl Selection<'_> {
    /// Why the machine cannot serve the selector; `None` if it can.
    pub fn problem(&self) -> Option<SelectionProblem> {
        let found = self.matching.len();
        let wanted = self.selector.count;
        match &self.selector.uuid {
            _ if found == 0 => Some(SelectionProblem::NoMatch),
            Some(prefix) if found > wanted as usize => {
                Some(SelectionProblem::AmbiguousUuid { prefix: prefix.clone(), found })
            }
            _ if found < wanted as usize => Some(SelectionProblem::TooFew { wanted, found }),
            _ => None,
        }
    }
}

/// Why a machine cannot serve a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionProblem {
    #[error("no GPU matches")]
    NoMatch,
    #[error("{wanted} GPUs are wanted and {found} match")]
    TooFew { wanted: u32, found: usize },
    #[error("the UUID prefix `{prefix}` is not unique: {found} GPUs start with it")]
    AmbiguousUuid { prefix: UuidPrefix, found: usize },
}

/// A condition that excludes a GPU. Prints as the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("its name is `{actual}`, not `{wanted}`")]
    Name { wanted: NamePattern, actual: String },
    #[error("its UUID `{actual}` does not start with `{wanted}`")]
    Uuid { wanted: UuidPrefix, actual: String },
    #[error("it is at `{actual}`, not `{wanted}`")]
    Pci { wanted: PciAddress, actual: PciAddress },
    #[error("its VRAM is {actual}, less than {wanted}")]
    TooLittleVram { wanted: Bytes, actual: Bytes },
    #[error("its VRAM is {actual}, more than {wanted}")]
    TooMuchVram { wanted: Bytes, actual: Bytes },
    #[error("its compute capability is {actual}, lower than {wanted}")]
    TooLowCapability { wanted: ComputeCapability, actual: ComputeCapability },
    #[error("its compute capability is {actual}, higher than {wanted}")]
    TooHighCapability { wanted: ComputeCapability, actual: ComputeCapability },
}

/// A product name, or a glob over product names (`*` for any text, `?` for one character).
///
/// Vendor words and case do not count; everything else does, so `RTX 3090` is never an
/// `RTX 3090 Ti`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both are spellings of one pattern.
    fn is_same(&self, other: &Self) -> bool {
        self.normal() == other.normal()
    }

    fn normal(&self) -> String {
        short_name(&self.0).to_lowercase()
    }

    /// Whether the NVML name `name` is meant.
    pub fn matches(&self, name: &str) -> bool {
        let pattern = self.normal();
        let full = name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        // `NVIDIA*` is a glob whose vendor word cannot be dropped.
        glob(&pattern, &short_name(name).to_lowercase()) || glob(&pattern, &full)
    }
}

impl FromStr for NamePattern {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if short_name(text).is_empty() {
            return Err(InvalidValue::new("expected a product name such as `RTX 3090`"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to resume when the text after the last `*` does not fit: one character later.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after_star, start)) = retry else { return false };
                retry = Some((after_star, start + 1));
                (p, t) = (after_star, start + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The beginning of a GPU's UUID, `GPU-` or `MIG-` included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UuidPrefix(String);

impl UuidPrefix {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn matches(&self, uuid: &str) -> bool {
        let start = uuid.get(..self.0.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(&self.0))
    }
}

impl FromStr for UuidPrefix {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let rest = ["MIG-GPU-", "MIG-", "GPU-"].iter().find_map(|kind| text.strip_prefix(kind));
        let is_uuid_text = |c: char| c.is_ascii_hexdigit() || matches!(c, '-' | '/');
        match rest {
            Some(rest) if !rest.is_empty() && rest.chars().all(is_uuid_text) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidValue::new("expected the beginning of a UUID, such as `GPU-8932f937`")),
        }
    }
}

impl fmt::Display for UuidPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
