use super::*;

/// Compares how a mask is read: taken entries as numbers or text, `|` before the entry that ends
/// the list, `!` after a duplicate, and quirks in brackets. Entries after the end are left out.
#[track_caller]
fn check(mask: &str, expected: &str) {
    let parsed = Mask::parse(mask);
    let word = |entry: &MaskEntry| {
        let kind = match entry.kind {
            EntryKind::Index(index) => index.to_string(),
            EntryKind::Negative => "|negative".to_owned(),
            EntryKind::Gpu | EntryKind::Mig => entry.text.clone(),
            EntryKind::End => "|end".to_owned(),
        };
        let quirks: Vec<_> = entry.quirks.iter().map(|it| format!("{it:?}")).collect();
        if quirks.is_empty() { kind } else { format!("{kind} [{}]", quirks.join(" ")) }
    };
    let words: Vec<_> = parsed.read().map(word).collect();
    assert_eq!(words.join(", "), expected, "{mask:?}");
    for entry in &parsed.entries {
        assert_eq!(mask[entry.span.clone()], entry.text);
    }
}

#[test]
fn plain_masks_have_no_quirks() {
    check("", "");
    check("0", "0");
    check("1,0,7", "1, 0, 7");
    check("-1", "|negative");
    check("0,-1,1", "0, |negative");
    check("GPU-8932f937", "GPU-8932f937");
    check("GPU-89,GPU-5b", "GPU-89, GPU-5b");
    check("MIG-89", "MIG-89");
    check("MIG-GPU-5b1c0f6e/1/0", "MIG-GPU-5b1c0f6e/1/0");
}

#[test]
fn numbers_that_are_more_than_digits_are_read_up_to_the_rest() {
    for (mask, expected) in [
        (" 1 ", "1 [Padding]"),
        ("0, 1", "0, 1 [Padding]"),
        ("1\n", "1 [Padding]"),
        ("+1", "1 [Sign]"),
        ("-0", "0 [Sign]"),
        ("01", "1 [LeadingZeros]"),
        ("0x10", "0 [Hexadecimal]"),
        ("0X1", "0 [Hexadecimal]"),
        ("10x1", "10 [TrailingText]"),
        ("0-1", "0 [Range]"),
        ("0:3", "0 [Range]"),
        ("0..3", "0 [Range]"),
        ("0 - 3", "0 [Range]"),
        ("1.9", "1 [TrailingText]"),
        ("0 1", "0 [TrailingText]"),
        ("0;1", "0 [TrailingText]"),
        ("1gpu2", "1 [TrailingText]"),
        ("-1x", "|negative [TrailingText]"),
        ("1²", "1 [NonAscii TrailingText]"),
        ("\u{a0}1", "|end [NonAscii]"),
        ("2147483647", "2147483647"),
        ("2147483648", "|negative [TooLarge]"),
        ("4294967297", "1 [TooLarge]"),
        ("-4294967296", "0 [TooLarge]"),
        ("99999999999999999999", "|negative [TooLarge]"),
    ] {
        check(mask, expected);
    }
}

#[test]
fn text_that_is_no_number_ends_a_list_of_numbers() {
    for (mask, expected) in [
        (" ", "|end [Blank]"),
        ("0,,1", "0, |end [Blank]"),
        ("0,", "0, |end [Blank]"),
        ("all", "|end [Word]"),
        ("none", "|end [Word]"),
        ("cuda:0", "|end [Word]"),
        ("\"0\"", "|end [Quotes]"),
        ("'0,1'", "|end [Quotes]"),
        ("-", "|end [LoneSign]"),
        ("+a", "|end [LoneSign]"),
        ("²", "|end [NonAscii]"),
        ("\u{fffd}0", "|end [NonAscii]"),
        ("gpu-89", "|end [PrefixCase]"),
        (" GPU-89", "|end [PaddedUuid]"),
        ("0,GPU-89", "0, |end [OtherKind]"),
        ("0,mig-89", "0, |end [OtherKind]"),
    ] {
        check(mask, expected);
    }
}

#[test]
fn lists_of_uuids_are_not_stripped() {
    for (mask, expected) in [
        ("GPU-89, GPU-5b", "GPU-89, |end [PaddedUuid]"),
        ("GPU-89 ,GPU-5b", "GPU-89  [NotAUuid], GPU-5b"),
        (
            "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6 ,GPU-5b",
            "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6  [TrailingText], GPU-5b",
        ),
        ("GPU-", "GPU- [NotAUuid]"),
        ("GPU-zz", "GPU-zz [NotAUuid]"),
        ("GPU-89/1", "GPU-89/1 [NotAUuid]"),
        ("GPU-8932F937", "GPU-8932F937 [UuidCase]"),
        ("GPU-89,gpu-5b", "GPU-89, |end [PrefixCase]"),
        ("GPU-89,1", "GPU-89, |end [OtherKind]"),
        ("GPU-89,-1", "GPU-89, |end [OtherKind]"),
        ("GPU-89,MIG-5b", "GPU-89, |end [OtherKind]"),
        ("MIG-89,GPU-5b", "MIG-89, |end [OtherKind]"),
        ("GPU-89,,GPU-5b", "GPU-89, |end [Blank]"),
        ("GPU-89,all", "GPU-89, |end [Word]"),
        ("GPU-89,\"GPU-5b\"", "GPU-89, |end [Quotes]"),
    ] {
        check(mask, expected);
    }
}

#[test]
fn duplicates_hide_every_gpu() {
    check("0,1,0", "0, 1, 0 [Duplicate]");
    check("00,0", "0 [LeadingZeros], 0 [Duplicate]");
    check("0,-0", "0, 0 [Sign Duplicate]");
    check("GPU-89,GPU-89", "GPU-89, GPU-89 [Duplicate]");
    assert_eq!(Mask::parse("1,0,1,0").duplicate, Some(2));
    assert!(Mask::parse("0,0").hides_every_gpu());
    // The list ends before the duplicate.
    check("0,-1,0", "0, |negative");
    assert_eq!(Mask::parse("0,-1,0").duplicate, None);
}

#[test]
fn some_masks_hide_every_gpu_of_any_machine() {
    for (mask, hides) in [("", true), ("-1", true), ("all", true), ("-1,0", true), ("0,-1", false)]
    {
        assert_eq!(Mask::parse(mask).hides_every_gpu(), hides, "{mask:?}");
    }
}
