use gpupin_lint::{
    program::Happening,
    project::{Known, Literal, Project},
    unit::{
        Asks, Does, Event, GpuRequest, Outcome, Purpose, Reach, Runs, SetHow, Sureness, UnitId,
    },
    value::Spanned,
};

pub(super) const UNKNOWN: &str = "a value only known at run time";

/// What happens, as a sentence without its subject.
pub(super) fn does(project: &Project<'_>, happening: &Happening, event: &Event) -> String {
    let unit = happening.unit;
    match &event.does {
        Does::SetVariable(it) => {
            let value = value(project, unit, &it.value);
            let verb = match it.how {
                SetHow::Assign => "sets",
                SetHow::IfUnset => "sets, unless it is set,",
                SetHow::Putenv => "sets, past `os.environ`,",
                SetHow::Temporary => "sets for a while",
                SetHow::Persistent => "sets for good",
            };
            let whom = match it.reach {
                Reach::Process | Reach::ShellOnly => "",
                Reach::Container => " for the container",
                Reach::Loader => " for who loads the file",
            };
            format!("{verb} `{}` to {value}{whom}", it.name)
        }
        Does::RemoveVariable(it) => format!("removes `{}`", it.name),
        Does::ReplaceEnvironment { keeps, inherits } => {
            let names: Vec<_> = keeps.iter().map(|it| format!("`{}`", it.0)).collect();
            match (names.is_empty(), inherits) {
                (true, false) => "clears the environment".to_owned(),
                (false, false) => format!("replaces the environment by {}", names.join(", ")),
                (true, true) => "replaces the environment by a copy of itself".to_owned(),
                (false, true) => {
                    format!(
                        "replaces the environment by a copy of itself with {}",
                        names.join(", ")
                    )
                }
            }
        }
        Does::LoadVariables { file, overrides } => {
            let file = file.as_deref().unwrap_or(".env");
            let how = if *overrides { "" } else { " that are not set" };
            format!("loads the variables of `{file}`{how}")
        }
        Does::ImportLibrary(library) => format!("imports `{}`", library.module),
        Does::Freeze(it) => {
            let verb = match (happening.frozen, it.sure) {
                (Some(earlier), _) if earlier.certain => "uses CUDA",
                (_, Sureness::Sure) => "starts CUDA",
                (_, Sureness::Uncertain) => "may start CUDA",
            };
            format!("{verb}: {}", code(&it.by))
        }
        Does::Choose(it) => {
            let ordinals: Vec<_> = it.ordinals.iter().map(|it| value(project, unit, it)).collect();
            let verb = match it.purpose {
                Purpose::Choose => "chooses a GPU",
                Purpose::Query => "asks about a GPU",
                Purpose::Setting => "has a setting for a GPU",
            };
            format!("{verb}: {} with {}", code(&it.by), ordinals.join(", "))
        }
        Does::Spread(it) => format!("lays work over several GPUs: {}", code(&it.by)),
        Does::Start(it) => format!("starts {}", runs(&it.runs)),
        Does::Check(it) => {
            let asks: Vec<_> = it.asks.iter().map(asks).collect();
            let end = match it.outcome {
                Outcome::Fails => "and fails without",
                Outcome::Tells => "and goes on in any case",
            };
            format!("checks {}, {end}", asks.join(" and "))
        }
        Does::CpuFallback(it) => format!("falls back to the CPU ({})", it.kind),
        Does::AccumulateGraph { target, value, .. } => {
            format!("adds `{value}` to `{target}` with its graph")
        }
        Does::ContainerGpus(it) => {
            let gpus = match &it.request {
                GpuRequest::All => "every GPU".to_owned(),
                GpuRequest::Count(1) | GpuRequest::Amount(1) => "one GPU".to_owned(),
                GpuRequest::Count(count) | GpuRequest::Amount(count) => format!("{count} GPUs"),
                GpuRequest::Ids(ids) => {
                    let ids: Vec<_> = ids.iter().map(|it| value(project, unit, it)).collect();
                    format!("the GPUs {}", ids.join(", "))
                }
                GpuRequest::RuntimeOnly => "the NVIDIA runtime".to_owned(),
            };
            format!("gives the container `{}` {gpus}", it.service)
        }
        Does::Gpupin => "pins through gpupin".to_owned(),
    }
}

/// What a value can be.
pub(super) fn value(project: &Project<'_>, unit: UnitId, value: &Spanned) -> String {
    let known: Vec<_> = project.known(unit, value).iter().map(known).collect();
    if known.is_empty() { UNKNOWN.to_owned() } else { known.join(" or ") }
}

fn known(known: &Known) -> String {
    let text = literal(&known.literal);
    if known.by_default { format!("{text} by default") } else { text }
}

fn literal(literal: &Literal) -> String {
    match literal {
        Literal::None => "`None`".to_owned(),
        Literal::Bool(it) => format!("`{it}`"),
        Literal::Int(it) => format!("`{it}`"),
        Literal::Float(it) => format!("`{it}`"),
        Literal::Str(it) if it.is_empty() => "nothing".to_owned(),
        Literal::Str(it) => code(it),
        Literal::List(items) => {
            let items: Vec<_> = items.iter().map(known).collect();
            format!("[{}]", items.join(", "))
        }
        Literal::NvmlIndex => "an index of NVML's order".to_owned(),
    }
}

fn runs(runs: &Runs) -> String {
    match runs {
        Runs::PythonFile(path) | Runs::Script(path) => code(path),
        Runs::PythonModule(module) => code(&format!("python -m {module}")),
        Runs::Pytest(paths) => code(format!("pytest {}", paths.join(" ")).trim_end()),
        Runs::Gpupin(inner) => format!("{} through `gpupin run`", self::runs(inner)),
        Runs::Other(program) => code(program),
        Runs::Unknown => "a program only known at run time".to_owned(),
    }
}

fn asks(asks: &Asks) -> &'static str {
    match asks {
        Asks::Available => "that CUDA is available",
        Asks::Count { .. } => "how many GPUs there are",
        Asks::Name { .. } => "the name of a GPU",
        Asks::Identity => "the UUID or PCI address of a GPU",
        Asks::Capability { .. } => "the compute capability of a GPU",
        Asks::Memory { .. } => "the memory of a GPU",
    }
}

/// Source text between backticks, unless it brings its own.
fn code(text: &str) -> String {
    if text.contains('`') { text.to_owned() } else { format!("`{text}`") }
}
