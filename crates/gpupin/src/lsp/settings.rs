use gpupin_lint::selection::Overrides;
use serde_json::Value;

use crate::{failure::Failure, project::ProjectArgs};

/// What the editor's `initializationOptions` say: what the flags of `gpupin scan` of the same names mean.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Settings {
    select: Option<Vec<String>>,
    extend_select: Option<Vec<String>>,
    ignore: Option<Vec<String>>,
    profile: Option<String>,
}

impl Settings {
    pub(super) fn read(options: Option<Value>) -> Result<Self, Failure> {
        let options = options.filter(|it| !it.is_null()).unwrap_or_else(|| serde_json::json!({}));
        serde_json::from_value(options).map_err(|error| {
            Failure::usage(format!("invalid initialization options: {error}"))
                .hint("the settings are `select`, `extendSelect`, `ignore` (lists of rules) and `profile`")
        })
    }

    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            select: self.select.clone(),
            extend_select: self.extend_select.clone().unwrap_or_default(),
            ignore: self.ignore.clone(),
        }
    }

    pub(super) fn project(&self) -> ProjectArgs {
        ProjectArgs { profile: self.profile.clone(), ..ProjectArgs::default() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Settings;

    #[track_caller]
    fn check(options: Value, expected: Result<&Settings, &str>) {
        let read = Settings::read(Some(options));
        let read = read.map_err(|it| it.lines().next().unwrap_or_else(|| unreachable!()).1);
        assert_eq!(read.as_ref().map_err(String::as_str), expected);
    }

    #[test]
    fn settings_are_what_the_flags_are() {
        let settings = Settings {
            select: Some(vec!["strict".to_owned()]),
            profile: Some("ci".to_owned()),
            ..Settings::default()
        };
        check(json!({"select": ["strict"], "profile": "ci", "ignore": null}), Ok(&settings));
        check(json!({}), Ok(&Settings::default()));
        check(Value::Null, Ok(&Settings::default()));
    }

    #[test]
    fn an_unknown_setting_is_an_error() {
        check(
            json!({"selct": ["GP1"]}),
            Err(
                "invalid initialization options: unknown field `selct`, expected one of `select`, `extendSelect`, `ignore`, `profile`",
            ),
        );
        check(
            json!({"select": "strict"}),
            Err(
                "invalid initialization options: invalid type: string \"strict\", expected a sequence",
            ),
        );
    }
}
