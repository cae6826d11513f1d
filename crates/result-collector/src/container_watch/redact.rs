//! Takes secrets out of an inspect document before it leaves the host. Pure.

use serde_json::Value;

/// What stands in place of a secret.
const HIDDEN: &str = "(hidden)";

/// Words in the name of a variable that make its value a secret.
const TELLING: [&str; 10] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "APIKEY",
    "API_KEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
    "CREDENTIAL",
];

/// Hides the values of variables whose names say that they are secret, and the credentials in URLs of the others.
/// Everybody who may read results can read the document.
pub(crate) fn hide_secrets(document: &mut Value) {
    let Some(Value::Array(variables)) = document.pointer_mut("/Config/Env") else { return };
    for variable in variables {
        let Some((name, value)) = variable.as_str().and_then(|text| text.split_once('=')) else { continue };
        let upper = name.to_uppercase();
        if TELLING.iter().any(|word| upper.contains(word)) {
            *variable = format!("{name}={HIDDEN}").into();
        } else if let Some(value) = without_password(value) {
            *variable = format!("{name}={value}").into();
        }
    }
}

/// `scheme://user:password@host` without the password; `None` if there is none.
fn without_password(value: &str) -> Option<String> {
    let mut url = url::Url::parse(value).ok()?;
    url.password()?;
    url.set_password(Some(HIDDEN)).ok()?;
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_secret_variables_and_passwords_in_urls_are_hidden() {
        let mut document = json!({"Config": {"Env": [
            "PATH=/bin", "DB_PASSWORD=p$a=ss", "github_token=t", "AWS_SECRET_ACCESS_KEY=k", "EMPTY",
            "DATABASE_URL=postgres://shop:hunter2@db/shop", "PAGE=https://example.org/a?b=c"
        ]}});
        hide_secrets(&mut document);
        assert_eq!(
            document["Config"]["Env"],
            json!([
                "PATH=/bin",
                "DB_PASSWORD=(hidden)",
                "github_token=(hidden)",
                "AWS_SECRET_ACCESS_KEY=(hidden)",
                "EMPTY",
                "DATABASE_URL=postgres://shop:(hidden)@db/shop",
                "PAGE=https://example.org/a?b=c"
            ])
        );
    }

    #[test]
    fn a_document_without_variables_stays_as_it_is() {
        let mut document = json!({"Config": {"Env": null}});
        hide_secrets(&mut document);
        assert_eq!(document, json!({"Config": {"Env": null}}));
    }
}
