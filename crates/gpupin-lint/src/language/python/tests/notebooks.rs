use super::{assert_places, dump};
use crate::{
    language::{UnitBuilder, python},
    source::{Charset, Encoding, Language},
    span::Positions,
};

/// Reads cells and compares what happens.
#[track_caller]
fn check(cells: &[&str], expected: &str) {
    let text = cells.join("\n");
    let mut start = 0;
    let places: Vec<_> = cells
        .iter()
        .map(|it| {
            let place = start..start + it.len();
            start = place.end + 1;
            place
        })
        .collect();
    let encoding = Encoding { byte_order_mark: false, charset: Charset::Utf8 };
    let mut out = UnitBuilder::new("a.ipynb", Language::Notebook, encoding, text.clone());
    let body = python::read_cells(&text, &places, &Positions::identity(), &mut out);
    let unit = out.finish(body);
    assert_eq!(dump(&unit).trim(), super::unindented(expected).trim(), "in\n{text}");
    assert_places(&unit);
}

#[test]
fn cells_share_their_names() {
    check(
        &["import torch\nGPU = 1", "torch.cuda.set_device(GPU)"],
        "
        library torch
        module torch
        choose torch.cuda.set_device 1
        freeze torch.cuda.set_device()
        ",
    );
}

#[test]
fn magics_set_variables_and_run_commands() {
    check(
        &[
            "%env CUDA_VISIBLE_DEVICES=1",
            "%set_env CUDA_DEVICE_ORDER PCI_BUS_ID",
            "%matplotlib inline",
            "!CUDA_VISIBLE_DEVICES=0 python train.py",
            "files = !ls",
        ],
        r#"
        set CUDA_VISIBLE_DEVICES = "1"
        set CUDA_DEVICE_ORDER = "PCI_BUS_ID"
        scope
          start PythonFile("train.py") + CUDA_VISIBLE_DEVICES="0"
        "#,
    );
}

#[test]
fn cells_of_other_languages_are_none_of_pythons() {
    check(
        &[
            "%%time\nx.to('cuda:1')",
            "%%bash\nCUDA_VISIBLE_DEVICES=1 python a.py",
            "%%html\n<b>x.to('cuda:1')</b>",
            "%%writefile x.py\nx.to('cuda:1')",
        ],
        r#"
        choose "cuda:1" 1
        freeze .to()
        scope
          start PythonFile("a.py") + CUDA_VISIBLE_DEVICES="1"
        "#,
    );
}

#[test]
fn a_broken_cell_does_not_spoil_the_next() {
    check(&["x = (", "y.to('cuda:1')"], "choose \"cuda:1\" 1\nfreeze .to()");
}
