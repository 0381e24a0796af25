use super::check;

#[test]
fn checks_that_fail_are_told_from_looks() {
    check(
        r#"
import sys, torch
def main():
    if not torch.cuda.is_available():
        raise RuntimeError("no GPU")
    if torch.cuda.is_available():
        pass
    assert torch.cuda.device_count() == 1
    name = torch.cuda.get_device_name(0)
    if "3090" not in name:
        sys.exit("wrong GPU")
    if torch.cuda.get_device_name() != "NVIDIA GeForce RTX 3090":
        raise SystemExit(1)
    props = torch.cuda.get_device_properties(0)
    if props.total_memory < 20 * 1024**3:
        raise RuntimeError
    if props.total_memory / 1024**3 < 20:
        raise RuntimeError
    if torch.cuda.get_device_capability(0) < (8, 6):
        raise RuntimeError
    assert str(props.uuid) == EXPECTED
    if not any(it in props.name for it in ("3090", "4090")):
        raise RuntimeError
"#,
        r#"
        library torch
        module torch
        def main:
          freeze torch.cuda.is_available()
          check available
          if CudaAvailable
          else
            raise
          freeze torch.cuda.is_available()
          look available
          check count
          if MoreGpusThan(0)
          else
            raise
          query torch.cuda.get_device_name 0
          freeze torch.cuda.get_device_name()
          check name of 0 ["3090"]
          if
            exit
          freeze torch.cuda.get_device_name()
          check name of current is ["NVIDIA GeForce RTX 3090"]
          if
            exit
          query torch.cuda.get_device_properties 0
          freeze torch.cuda.get_device_properties()
          check memory Some(21474836480)
          if
            raise
          check memory Some(21474836480)
          if
            raise
          query torch.cuda.get_device_capability 0
          freeze torch.cuda.get_device_capability()
          check capability Some((8, 6))
          if
            raise
          check identity
          check name of 0 ["3090", "4090"]
          if
          else
            raise
        "#,
    );
}

#[test]
fn silent_fallbacks_to_the_cpu_are_seen_in_every_form() {
    check(
        r#"
import torch, logging
a = "cuda" if torch.cuda.is_available() else "cpu"
b = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
use_cuda = torch.cuda.is_available()
c = torch.device("cuda") if use_cuda else torch.device("cpu")
if torch.cuda.is_available():
    d = "cuda"
else:
    d = "cpu"
e = "cpu"
if use_cuda:
    e = "cuda"
try:
    f = model.to("cuda")
except RuntimeError:
    f = model.to("cpu")
g = ["CUDAExecutionProvider", "CPUExecutionProvider"]
def pick():
    if torch.cuda.is_available():
        return "cuda"
    return "cpu"
"#,
        r#"
        library torch
        module torch
        freeze torch.cuda.is_available()
        fallback conditional expression
        freeze torch.cuda.is_available()
        fallback conditional expression
        if CudaAvailable
          choose "cuda:0" 0
        freeze torch.cuda.is_available()
        fallback conditional expression
        freeze torch.cuda.is_available()
        fallback if/else
        look available
        fallback if/else
        look available
        fallback except
        try
          freeze .to()
        except
        fallback provider list
        def pick:
          fallback if/else
          freeze torch.cuda.is_available()
          look available
          if CudaAvailable
            return
          return
        "#,
    );
}

#[test]
fn a_fallback_that_is_told_or_chosen_is_none() {
    check(
        r#"
import torch, logging
if torch.cuda.is_available():
    d = "cuda"
else:
    logging.warning("no GPU, this will be slow")
    d = "cpu"
e = "cuda" if args.gpu else "cpu"
def f(use_gpu):
    return "cuda" if use_gpu else "cpu"
try:
    g = model.to("cuda")
except RuntimeError:
    raise
h = ["CPUExecutionProvider"]
"#,
        r"
        library torch
        module torch
        freeze torch.cuda.is_available()
        look available
        try
          freeze .to()
        except
          raise
        ",
    );
}

#[test]
fn sums_of_losses_keep_their_graph() {
    check(
        r"
def train():
    for batch in loader:
        loss = step(batch)
        loss.backward()
        total += loss
        losses.append(loss)
        fine += loss.item()

def objective(outputs):
    for loss in outputs:
        total += loss
    return total

def evaluate():
    with torch.no_grad():
        for batch in loader:
            total += loss
",
        r"
        def train:
          loop
            accumulate total loss
            accumulate losses loss
        ",
    );
}
