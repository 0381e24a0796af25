//! Which GPU is meant for a file, and which one a number would hit.
//!
//! Rules ask here instead of comparing numbers themselves: what `cuda:0` is follows from the policy, the
//! recorded machines and [`gpupin_policy::visibility`]. A name is given only if every recorded machine
//! that can run the project gives the same one.

use gpupin_policy::{
    Gpu, Inventory, PinAs, Selector,
    visibility::{Certainty, Environment, Ordinal, pin, resolve},
};

use crate::{
    program::{Program, pins::Leads},
    project::Project,
    unit::{EventId, UnitId},
};

/// What the programs that a file is part of are meant to see.
#[derive(Debug)]
pub(crate) struct Meant<'a> {
    /// One per role; several if programs of different roles use the file. None if nothing is declared.
    selectors: Vec<&'a Selector>,
}

impl<'a> Meant<'a> {
    pub(crate) fn of(project: &Project<'a>, unit: UnitId) -> Self {
        let mut selectors: Vec<&Selector> = Vec::new();
        if !project.policy.roles.is_empty() {
            let programs = project.programs.iter().filter(|it| it.runs(unit));
            let own = project.role_of(&project.unit(unit).source.path).map(|it| &it.selector);
            for selector in programs.filter_map(|it| project.wanted(it)).chain(own) {
                if !selectors.contains(&selector) {
                    selectors.push(selector);
                }
            }
        }
        if selectors.is_empty() {
            selectors.extend(&project.policy.gpu);
        }
        Self { selectors }
    }

    /// What the programs are meant to see that run in a container; else those of its file.
    pub(crate) fn in_container(project: &Project<'a>, container: (UnitId, EventId)) -> Self {
        let mut selectors: Vec<&Selector> = Vec::new();
        let runs_there = |it: &&Program| it.containers.iter().any(|it| it.container == container);
        for selector in
            project.programs.iter().filter(runs_there).filter_map(|it| project.wanted(it))
        {
            if !selectors.contains(&selector) {
                selectors.push(selector);
            }
        }
        if selectors.is_empty() { Self::of(project, container.0) } else { Self { selectors } }
    }

    /// The machines that have a GPU that is meant.
    pub(crate) fn machines(&self, project: &Project<'a>) -> Vec<&'a Inventory> {
        let has = |it: &&Inventory| {
            !self.is_declared()
                || it.usable().any(|gpu| self.selectors.iter().any(|it| it.matches(gpu)))
        };
        project.lock.machines().iter().filter(has).collect()
    }

    /// Where a GPU leads that is not meant.
    pub(crate) fn other(&self, project: &Project<'_>, gpu: &Gpu) -> Option<Leads> {
        if self.selectors.iter().any(|it| it.matches(gpu)) {
            return None;
        }
        let forbidden = project.policy.forbid.iter().any(|it| it.matches(gpu));
        (forbidden || self.is_declared()).then(|| Leads::To { name: gpu.short_name(), forbidden })
    }

    /// For messages: `, the policy wants …`; empty if it says nothing or several things.
    pub(crate) fn wanted(&self) -> String {
        match &*self.selectors {
            [only] => format!(", the policy wants {only}"),
            _ => String::new(),
        }
    }

    /// Whether a policy says so. Without one, one GPU is assumed where a number is needed.
    pub(crate) fn is_declared(&self) -> bool {
        !self.selectors.is_empty()
    }

    /// How many GPUs are visible under the pin; the most, where roles differ.
    pub(crate) fn count(&self) -> i64 {
        self.selectors.iter().map(|it| i64::from(it.count)).max().unwrap_or(1)
    }

    /// What `cuda:0` is under the pin.
    pub(crate) fn name(&self, project: &Project<'_>) -> Option<String> {
        let [selector] = &*self.selectors else { return None };
        let usable = project.lock.machines().iter().filter(|it| !matching(selector, it).is_empty());
        agreed(usable.map(|machine| {
            // Twins have several UUIDs and one name.
            agreed(matching(selector, machine).into_iter().map(|gpu| {
                let pin = pin(machine, std::slice::from_ref(&gpu.uuid), PinAs::Uuid)?;
                hit_on(machine, &Environment::from_pairs(pin), 0)
            }))
        }))
    }

    /// Whether a process with this environment has exactly a GPU of the policy as `cuda:0`, on every
    /// recorded machine, of which there must be one.
    pub(crate) fn is_hit(&self, project: &Project<'_>, environment: &Environment) -> bool {
        let machines = project.lock.machines();
        let hit = |machine: &Inventory| {
            let visibility = resolve(machine, environment);
            let gpu = visibility.at(Ordinal(0)).and_then(|it| machine.get(it.uuid.as_ref()?));
            visibility.certainty == Certainty::Exact
                && gpu.is_some_and(|gpu| self.selectors.iter().all(|it| it.matches(gpu)))
        };
        self.is_declared() && !machines.is_empty() && machines.iter().all(hit)
    }

    /// The UUID of the one GPU that is meant, if there is one machine and one such GPU. If not, why.
    pub(crate) fn uuid(&self, project: &Project<'_>) -> Result<String, String> {
        let selector = match &*self.selectors {
            [selector] => selector,
            [] => return Err("no policy says which GPU is meant".to_owned()),
            _ => return Err("programs of several roles share it".to_owned()),
        };
        let machine = match project.lock.machines() {
            [machine] => machine,
            [] => return Err("no machine is recorded in `gpupin.lock`".to_owned()),
            more => {
                let count = more.len();
                return Err(format!(
                    "a UUID is one machine's, and `gpupin.lock` records {count} machines"
                ));
            }
        };
        match (&*matching(selector, machine), selector.count) {
            ([gpu], 1) => Ok(gpu.uuid.to_string()),
            (_, 1) => Err(format!("on `{}` not exactly one GPU is the policy's", machine.host)),
            (_, count) => Err(format!("the policy wants {count} GPUs")),
        }
    }
}

/// What `cuda:ordinal` is in a process with this environment.
pub(crate) fn hit(
    project: &Project<'_>,
    environment: &Environment,
    ordinal: u32,
) -> Option<String> {
    agreed(project.lock.machines().iter().map(|it| hit_on(it, environment, ordinal)))
}

/// What an NVML index was when the machines were recorded.
pub(crate) fn at_index(project: &Project<'_>, index: u32) -> Option<String> {
    agreed(
        project
            .lock
            .machines()
            .iter()
            .map(|machine| machine.gpus.iter().find(|it| it.index.0 == index).map(Gpu::short_name)),
    )
}

fn hit_on(machine: &Inventory, environment: &Environment, ordinal: u32) -> Option<String> {
    let visibility = resolve(machine, environment);
    let uuid = visibility.at(Ordinal(ordinal))?.uuid.as_ref()?;
    machine.get(uuid).map(Gpu::short_name)
}

fn matching<'m>(selector: &Selector, machine: &'m Inventory) -> Vec<&'m Gpu> {
    machine.usable().filter(|it| selector.matches(it)).collect()
}

/// The name that all give, if there is at least one and none is unknown.
fn agreed(mut names: impl Iterator<Item = Option<String>>) -> Option<String> {
    let first = names.next()??;
    names.all(|it| it.as_ref() == Some(&first)).then_some(first)
}
