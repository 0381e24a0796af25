//! What GPUs a container gets: `docker run` and the texts that Docker, compose and CDI share.

use super::{
    UnitBuilder,
    command::{self, Command, assignment, part, program_name, text},
};
use crate::{
    span::Span,
    unit::{
        ChildEnvironment, ContainerGpus, Does, GpuRequest, Reach, Runs, SetHow, SetVariable, Start,
        Step,
    },
    value::{Spanned, Value},
};

/// Reads `docker run …` and its kin. `None` for every other command.
pub(crate) fn docker(command: &Command, out: &mut UnitBuilder) -> Option<Vec<Step>> {
    let words = &command.words;
    let name = program_name(text(words.first()?)?);
    let nvidia_docker = name == "nvidia-docker";
    if !matches!(&*name, "docker" | "podman" | "nerdctl" | "nvidia-docker") {
        return None;
    }
    let verb = words
        .iter()
        .skip(1)
        .position(|it| text(it).is_some_and(|it| matches!(it, "run" | "create" | "exec")))?
        + 1;
    // `docker compose run` has its GPUs in the compose file; its `-e` still counts.
    let options = Options::read(&words[verb + 1..], out);
    let image = options.rest.first()?;
    let service =
        options.name.clone().or_else(|| text(image).map(str::to_owned)).unwrap_or(name.clone());

    let mut inner = options.rest[1..].to_vec();
    if let Some(entry) = &options.entry_point {
        inner.insert(0, entry.clone());
    }
    let outer = out.enter_service(Some(service.clone()));
    let mut steps = Vec::new();
    let request = options.request(nvidia_docker, out);
    if let Some((span, request)) = request {
        let only_inspects = only_inspects(&inner);
        let gpus = ContainerGpus { service, request, only_inspects, built_from: None };
        steps.push(out.event(span, Does::ContainerGpus(gpus)));
    }
    // The host's environment stays outside.
    let pairs = options.variables.iter().map(|it| (it.name.clone(), it.value.clone())).collect();
    let environment = if options.env_files.is_empty() {
        ChildEnvironment::Only(pairs)
    } else {
        ChildEnvironment::Inherited(pairs)
    };
    for (file, span) in options.env_files {
        let does = Does::LoadVariables { file: Some(file), overrides: true };
        steps.push(out.event(span, does));
    }
    for variable in options.variables {
        steps.push(set_in_container(variable, out));
    }
    if inner.is_empty() {
        let (span, service) = (command.span, out.service().map(str::to_owned));
        let start = Start { runs: Runs::Unknown, words: Vec::new(), environment, service };
        steps.push(out.event(span, Does::Start(start)));
    } else {
        let (span, directory) = (command.span, options.directory);
        let start = Command { span, words: inner, environment, directory };
        steps.extend(command::run(start, out));
    }
    out.enter_service(outer);
    Some(vec![Step::Scope(crate::unit::Block(steps))])
}

/// What options of `docker run` ask for, without a command.
pub(crate) fn requested(options: &[Spanned], out: &UnitBuilder) -> Option<GpuRequest> {
    Options::read(options, out).request(false, out).map(|it| it.1)
}

/// A variable that a container gets.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) span: Span,
    pub(crate) name: String,
    pub(crate) name_span: Span,
    pub(crate) value: Spanned,
}

impl Variable {
    /// Reads `NAME=value`. `NAME` alone passes the outer value on.
    pub(crate) fn in_word(word: &Spanned, out: &UnitBuilder) -> Option<Self> {
        let span = word.span;
        if let Some((name, value)) = assignment(word, out) {
            let name_span = name_span(word, &name, out);
            return Some(Self { span, name, name_span, value });
        }
        let name = text(word).filter(|it| command::is_variable_name(it))?.to_owned();
        let value = Spanned::new(Value::Variable(name.clone()), span);
        Some(Self { span, name, name_span: span, value })
    }
}

fn name_span(word: &Spanned, name: &str, out: &UnitBuilder) -> Span {
    match out.source().slice(word.span).find(name) {
        Some(at) => {
            let start = word.span.start as usize + at;
            Span::new(start, start + name.len())
        }
        None => word.span,
    }
}

/// A variable of a container; `NVIDIA_VISIBLE_DEVICES` is read by [`visible_devices`].
pub(crate) fn set_in_container(variable: Variable, out: &mut UnitBuilder) -> Step {
    let Variable { span, name, name_span, value } = variable;
    let (how, reach) = (SetHow::Assign, Reach::Container);
    out.event(span, Does::SetVariable(SetVariable { name, name_span, value, how, reach }))
}

/// The command that an image brings along.
pub(crate) fn start_unknown(span: Span, out: &mut UnitBuilder) -> Step {
    start_image(span, Runs::Unknown, out)
}

/// The command of an image: what its Dockerfile says, if that is known.
pub(crate) fn start_image(span: Span, runs: Runs, out: &mut UnitBuilder) -> Step {
    let service = out.service().map(str::to_owned);
    let environment = ChildEnvironment::Inherited(Vec::new());
    out.event(span, Does::Start(Start { runs, words: Vec::new(), environment, service }))
}

/// What `NVIDIA_VISIBLE_DEVICES` asks for. `void`, `none` and nothing ask for no GPU.
pub(crate) fn visible_devices(value: &Spanned, out: &UnitBuilder) -> Option<GpuRequest> {
    match text(value)?.trim() {
        "" | "void" | "none" => None,
        "all" => Some(GpuRequest::All),
        ids => Some(GpuRequest::Ids(id_list(value, ids, out))),
    }
}

/// `0,1` or UUIDs.
pub(crate) fn id_list(word: &Spanned, ids: &str, out: &UnitBuilder) -> Vec<Spanned> {
    let whole = part(word, ids, out);
    let mut start = whole.start as usize;
    let exact = whole.end as usize - start == ids.len();
    let mut list = Vec::new();
    for id in ids.split(',') {
        let span = if exact {
            let lead = id.len() - id.trim_start().len();
            Span::new(start + lead, start + lead + id.trim().len())
        } else {
            whole
        };
        if !id.trim().is_empty() {
            list.push(Spanned::new(Value::Str(id.trim().to_owned()), span));
        }
        start += id.len() + 1;
    }
    list
}

/// Whether a container's command only looks at GPUs.
pub(crate) fn only_inspects(words: &[Spanned]) -> bool {
    let Some(program) = words.first().and_then(text) else { return false };
    // A shell's `-c` text, or one string with everything in it.
    let program = match program_name(program) {
        it if command::is_shell(&it) => match words.get(2).and_then(text) {
            Some(script) => script.split_whitespace().next().unwrap_or_default().to_owned(),
            None => it,
        },
        it => it.split_whitespace().next().unwrap_or_default().to_owned(),
    };
    matches!(
        &*program,
        "nvidia-smi"
            | "nvidia-ctk"
            | "gpustat"
            | "nvtop"
            | "nvitop"
            | "dcgm-exporter"
            | "deviceQuery"
    )
}

#[derive(Debug, Default)]
struct Options {
    name: Option<String>,
    entry_point: Option<Spanned>,
    /// `--gpus`, with the option's span.
    gpus: Option<(Span, Spanned)>,
    /// `--runtime nvidia`.
    runtime: Option<Span>,
    /// `--device nvidia.com/gpu=…`: what follows the `=`.
    devices: Vec<(Span, Spanned)>,
    variables: Vec<Variable>,
    env_files: Vec<(String, Span)>,
    directory: String,
    /// Image and command.
    rest: Vec<Spanned>,
}

impl Options {
    fn read(words: &[Spanned], out: &UnitBuilder) -> Self {
        let mut options = Self::default();
        let mut at = 0;
        while let Some(word) = words.get(at) {
            let known = text(word).unwrap_or_default();
            if !known.starts_with('-') {
                break;
            }
            at += 1;
            if is_switch(known) {
                continue;
            }
            let (flag, value) = match known.split_once('=').filter(|_| known.starts_with("--")) {
                Some((flag, value)) => {
                    let inner = Spanned::new(Value::Str(value.to_owned()), part(word, value, out));
                    (flag.to_owned(), inner)
                }
                // `-eX=1`
                None if known.len() > 2 && known.starts_with("-e") && !known.starts_with("--") => {
                    let value = &known[2..];
                    let inner = Spanned::new(Value::Str(value.to_owned()), part(word, value, out));
                    ("-e".to_owned(), inner)
                }
                None => {
                    let Some(value) = words.get(at) else { break };
                    at += 1;
                    (known.to_owned(), value.clone())
                }
            };
            options.option(&flag, word.span.cover(value.span), value, out);
        }
        options.rest = words.get(at..).unwrap_or_default().to_vec();
        options
    }

    fn option(&mut self, flag: &str, span: Span, value: Spanned, out: &UnitBuilder) {
        let known = text(&value).map(str::to_owned);
        match flag {
            "--name" => self.name = known,
            "--entrypoint" => self.entry_point = Some(value),
            "--gpus" => self.gpus = Some((span, value)),
            "--runtime" if known.as_deref() == Some("nvidia") => self.runtime = Some(span),
            "--device" => {
                let Some(known) = known else { return };
                if let Some(id) = known.strip_prefix("nvidia.com/gpu=") {
                    let inner = Spanned::new(Value::Str(id.to_owned()), part(&value, id, out));
                    self.devices.push((span, inner));
                }
            }
            "-e" | "--env" => self.variables.extend(Variable::in_word(&value, out)),
            "--env-file" => self.env_files.extend(known.map(|it| (it, span))),
            "-w" | "--workdir" => self.directory = known.unwrap_or_default(),
            _ => {}
        }
    }

    /// What the container asks for, by the option that says it most exactly.
    fn request(&self, nvidia_docker: bool, out: &UnitBuilder) -> Option<(Span, GpuRequest)> {
        if let Some((span, value)) = &self.gpus {
            return Some((*span, gpus_option(value, out)?));
        }
        if let Some((span, _)) = self.devices.first() {
            let ids: Vec<_> = self.devices.iter().map(|it| it.1.clone()).collect();
            let all = ids.iter().any(|it| text(it) == Some("all"));
            return Some((*span, if all { GpuRequest::All } else { GpuRequest::Ids(ids) }));
        }
        let visible = self.variables.iter().find(|it| it.name == "NVIDIA_VISIBLE_DEVICES");
        if let Some(variable) = visible {
            return Some((variable.span, visible_devices(&variable.value, out)?));
        }
        match self.runtime {
            Some(span) => Some((span, GpuRequest::RuntimeOnly)),
            None if nvidia_docker => Some((self.rest.first()?.span, GpuRequest::RuntimeOnly)),
            None => None,
        }
    }
}

/// `all`, `2`, `device=0,1`, `"device=0,1"`, `count=2`, with `capabilities=…` beside it.
fn gpus_option(value: &Spanned, out: &UnitBuilder) -> Option<GpuRequest> {
    let known = text(value)?.trim_matches(['"', '\'']);
    if let Some((_, rest)) = known.split_once("device=") {
        // Without inner quotes Docker reads `device=0,1` as two fields; what is meant is the same.
        let ids: Vec<&str> = rest
            .split(',')
            .take_while(|it| !it.contains('='))
            .map(|it| it.trim_matches('"'))
            .collect();
        return Some(GpuRequest::Ids(id_list(value, &ids.join(","), out)));
    }
    let mut parts = known.split(',').map(|it| it.trim_matches('"'));
    let count = parts
        .find_map(|it| it.strip_prefix("count=").or_else(|| (!it.contains('=')).then_some(it)))?;
    match count {
        "all" | "-1" => Some(GpuRequest::All),
        count => count.parse().ok().map(GpuRequest::Count),
    }
}

/// Long options of `docker run` that take no value.
const SWITCHES: &[&str] = &[
    "--rm",
    "--detach",
    "--interactive",
    "--tty",
    "--privileged",
    "--init",
    "--read-only",
    "--no-healthcheck",
    "--oom-kill-disable",
    "--publish-all",
    "--quiet",
    "--sig-proxy",
    "--disable-content-trust",
    "--replace",
    "--no-deps",
    "--service-ports",
    "--use-aliases",
    "--build",
    "--no-TTY",
    "--remove-orphans",
    "--rmi",
    "--no-hosts",
];

/// Whether an option takes no value.
fn is_switch(option: &str) -> bool {
    if let Some(letters) = option.strip_prefix('-').filter(|it| !it.starts_with('-')) {
        return !letters.is_empty() && letters.bytes().all(|it| b"ditPqTS".contains(&it));
    }
    SWITCHES.contains(&option)
        || option.split_once('=').is_some_and(|(name, _)| SWITCHES.contains(&name))
}
