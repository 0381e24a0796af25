use crate::language::tests::check;

#[test]
fn every_way_to_write_a_value_is_read() {
    check(
        ".env",
        "# read by settings.py\r\nA=1\r\nexport B = 'x # $y' # why\nC=\"a\\\"b\" \nCUDA_VISIBLE_DEVICES=1 # the 3090\nD=\nE=a#b\nF=${GPU:-0}\nnot a line\nG=\"two\nlines # gpupin: ignore[GP9]\"\nH='open\n# gpupin: ignore[GP108] r\nCUDA_VISABLE_DEVICES=2",
        r#"
        set A = "1" Assign Loader
        set B = "x # $y"‹'x # $y'› Assign Loader
        set C = "a\"b"‹"a\"b"› Assign Loader
        set CUDA_VISIBLE_DEVICES = "1" Assign Loader
        set D = ""‹› Assign Loader
        set E = "a#b" Assign Loader
        set F = default "0"‹${GPU:-0}› Assign Loader
        set G = "two\nlines # gpupin: ignore[GP9]"‹"two
        lines # gpupin: ignore[GP9]"› Assign Loader
        set H = "'open" Assign Loader
        set CUDA_VISABLE_DEVICES = "2" Assign Loader
        ignore GP108 in ‹CUDA_VISABLE_DEVICES=2›
        "#,
    );
}
