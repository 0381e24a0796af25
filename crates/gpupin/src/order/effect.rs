//! What becomes of a change of the environment.

use gpupin_lint::{
    program::{Happening, Moment, Setting, Write},
    unit::{ChildEnvironment, Does, EventId, Reach, RemoveHow, Runs, SetHow, UnitId},
};

use super::{Derived, Effect};

/// Who reads a variable that was set.
enum Reader {
    Cuda(UnitId, EventId),
    /// The program that is started in this step.
    Child(usize),
    /// Nobody in the program, which ends with it.
    End,
}

impl Derived<'_> {
    pub(super) fn effect(
        &self,
        happening: &Happening,
        number: usize,
        does: &Does,
    ) -> Option<Effect> {
        match does {
            Does::SetVariable(it) => Some(match it.how {
                SetHow::Persistent => no("this session keeps what it has, only later ones get it"),
                SetHow::Temporary => yes("for one test or block"),
                // A variable that came exported stays so.
                _ if it.reach == Reach::ShellOnly => perhaps(
                    "it is not exported here, so programs get it only if it came exported from outside",
                ),
                how => self.effect_of_setting(happening, number, &it.name, how),
            }),
            Does::RemoveVariable(it) if it.how == RemoveHow::Temporary => Some(yes("for one test")),
            Does::RemoveVariable(_) | Does::ReplaceEnvironment { .. } => {
                let on_time = || yes("CUDA has not started yet");
                Some(self.too_late(happening, self.heir(number)).unwrap_or_else(on_time))
            }
            _ => self.effect_of_reading(happening, number),
        }
    }

    /// Why a change of the environment may come too late, unless the program started in step `child` still sees it.
    fn too_late(&self, happening: &Happening, child: Option<usize>) -> Option<Effect> {
        let earlier = happening.frozen?;
        let step = self.named_step(earlier.unit, earlier.event);
        let has_read = if earlier.certain { "has read" } else { "may have read" };
        let Some(child) = child else {
            let why = format!("CUDA {has_read} its environment {step}");
            return Some(if earlier.certain { no(why) } else { perhaps(why) });
        };
        let why = format!(
            "the program started in step {child} sees it; here CUDA {has_read} its environment {step}"
        );
        Some(if self.starts_something_known(child) { yes(why) } else { perhaps(why) })
    }

    fn effect_of_setting(
        &self,
        happening: &Happening,
        number: usize,
        name: &str,
        how: SetHow,
    ) -> Effect {
        let reader = self.reader_of(happening, number, name);
        let child = match reader {
            Some(Reader::Child(child)) => Some(child),
            _ => None,
        };
        if let Some(effect) = self.too_late(happening, child) {
            return effect;
        }
        let why = match reader {
            Some(Reader::Cuda(unit, event)) => {
                format!("CUDA reads it {}", self.named_step(unit, event))
            }
            Some(Reader::Child(child)) => format!("the program started in step {child} gets it"),
            Some(Reader::End) => {
                "it holds at the end; nothing was seen that starts CUDA before".to_owned()
            }
            None if how == SetHow::IfUnset && is_set(&happening.before) => {
                return no("the variable is set already");
            }
            None => return self.unread(happening, number, name),
        };
        if name.ends_with("_ALLOC_CONF")
            && let Some(earlier) = happening.imported
        {
            let step = self.named_step(earlier.unit, earlier.event);
            return perhaps(format!("the library imported {step} may have read it then"));
        }
        if how == SetHow::IfUnset && happening.before.inherited {
            return perhaps(format!("unless it was set from outside, {why}"));
        }
        yes(why)
    }

    /// CUDA before programs that are started, and those before nobody.
    fn reader_of(&self, happening: &Happening, number: usize, name: &str) -> Option<Reader> {
        let has = |it: &Moment| holds(it, happening, name);
        let mut readers = self.program.moments.iter().filter(|it| has(it)).map(|it| it.by);
        let is_end = readers.clone().any(|it| it.is_none());
        let cuda = readers.find_map(|it| it.filter(|it| !self.is_start(*it)));
        if let Some((unit, event)) = cuda {
            return Some(Reader::Cuda(unit, event));
        }
        let gets = |(_, later): &(usize, &Happening)| {
            let by = Some((later.unit, later.event));
            self.program.children.iter().any(|it| it.by == by && has(it))
        };
        let children: Vec<_> = self.later(number).filter(gets).map(|it| it.0).collect();
        let known = children.iter().find(|it| self.starts_something_known(**it));
        known.or(children.first()).map(|it| Reader::Child(*it)).or(is_end.then_some(Reader::End))
    }

    /// Why nobody who is known reads what was set.
    fn unread(&self, happening: &Happening, number: usize, name: &str) -> Effect {
        for (step, later) in self.later(number) {
            let is_gone = later.before.writes.contains(&write(happening));
            match &self.linted.event(later.unit, later.event).does {
                Does::Start(it) if matches!(it.environment, ChildEnvironment::Unknown) => {
                    return perhaps(format!(
                        "the environment of the program started in step {step} is only known at run time"
                    ));
                }
                Does::SetVariable(it) if it.name == name && is_gone => {
                    return no(format!("it is replaced in step {step} before anybody reads it"));
                }
                Does::RemoveVariable(it) if it.name == name && is_gone => {
                    return no(format!("it is removed in step {step} before anybody reads it"));
                }
                Does::ReplaceEnvironment { inherits: false, .. } if !later.conditional => {
                    return no(format!(
                        "the environment is replaced in step {step} before anybody reads it"
                    ));
                }
                _ => {}
            }
        }
        perhaps("nothing was seen that reads it")
    }

    /// The step behind step `number` that starts a program with this environment.
    fn heir(&self, number: usize) -> Option<usize> {
        let inherits = |it: &ChildEnvironment| {
            matches!(it, ChildEnvironment::Inherited(_) | ChildEnvironment::Without { .. })
        };
        let mut later = self.later(number).map(|it| it.0);
        later.find(
            |step| matches!(self.does_in(*step), Some(Does::Start(it)) if inherits(&it.environment)),
        )
    }

    fn later(&self, number: usize) -> impl Iterator<Item = (usize, &Happening)> {
        (1..).zip(&self.program.trace).skip(number)
    }

    fn does_in(&self, step: usize) -> Option<&Does> {
        let happening = self.program.trace.get(step.checked_sub(1)?)?;
        Some(&self.linted.event(happening.unit, happening.event).does)
    }

    /// `nvidia-smi` or `pip` do not care for a mask, and of other programs nothing is known.
    fn starts_something_known(&self, step: usize) -> bool {
        matches!(self.does_in(step), Some(Does::Start(it)) if !matches!(it.runs, Runs::Other(_)))
    }

    fn is_start(&self, (unit, event): (UnitId, EventId)) -> bool {
        matches!(self.linted.event(unit, event).does, Does::Start(_))
    }
}

fn write(happening: &Happening) -> Write {
    Write { unit: happening.unit, event: happening.event, slot: None }
}

/// Whether what a step sets may be in effect at a moment.
fn holds(moment: &Moment, happening: &Happening, name: &str) -> bool {
    moment.variables.get(name).is_some_and(|it| it.writes.contains(&write(happening)))
}

/// Whether the program itself has set a variable on every way.
fn is_set(setting: &Setting) -> bool {
    !setting.inherited && !setting.writes.is_empty()
}

fn yes(why: impl Into<String>) -> Effect {
    Effect { takes_effect: Some(true), why: why.into() }
}

fn no(why: impl Into<String>) -> Effect {
    Effect { takes_effect: Some(false), why: why.into() }
}

fn perhaps(why: impl Into<String>) -> Effect {
    Effect { takes_effect: None, why: why.into() }
}
