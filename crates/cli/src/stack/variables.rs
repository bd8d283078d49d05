//! `${NAME}` in a stack file: values of the environment, as Compose fills them in. What they are comes as an argument.

/// The text with its variables filled in: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}`;
/// `$$` is a dollar.
///
/// # Errors
/// The line, and what is wrong there.
pub(super) fn filled(text: &str, of: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let lines = text.split_inclusive('\n').enumerate().map(|(number, line)| match line.trim_start() {
        comment if comment.starts_with('#') => Ok(line.to_owned()),
        _ => in_line(line, of).map_err(|wrong| format!("line {}: {wrong}", number + 1)),
    });
    lines.collect()
}

fn in_line(line: &str, of: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let (mut filled, mut rest) = (String::new(), line);
    while let Some((before, after)) = rest.split_once('$') {
        filled.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            filled.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (inside, after) =
                after.split_once('}').ok_or("a variable has no `}`: write $$ for a dollar")?;
            filled.push_str(&in_braces(inside, of)?);
            rest = after;
        } else {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            if end == 0 {
                return Err("a dollar without a variable: write $$ for a dollar".into());
            }
            filled.push_str(&of(&after[..end]).unwrap_or_default());
            rest = &after[end..];
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

fn in_braces(inside: &str, of: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
    let (name, rest) = inside.split_at(end);
    let (rest, value) = match rest.strip_prefix(':') {
        Some(rest) => (rest, of(name).filter(|value| !value.is_empty())),
        None => (rest, of(name)),
    };
    match (rest.chars().next(), value) {
        (None, value) => Ok(value.unwrap_or_default()),
        (Some('-' | '?'), Some(value)) => Ok(value),
        (Some('-'), None) => Ok(rest[1..].to_owned()),
        (Some('?'), None) => Err(format!("{name} is not set: {}", &rest[1..])),
        (Some(_), _) => Err(format!("${{{inside}}} is no variable: there are -, :-, ? and :? behind a name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let of = |name: &str| match name {
            "PORT" => Some("80".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let found = filled(text, &of).unwrap_or_else(|wrong| wrong);
        assert_eq!(found, expected);
    }

    #[test]
    fn variables_are_filled_in_as_compose_does() {
        check("a: \"$PORT:${PORT}\"\nb: $$x", "a: \"80:80\"\nb: $x");
        check("${NONE:-1} ${EMPTY:-2} ${EMPTY-3} ${NONE-4} ${PORT:-5}", "1 2  4 80");
        check("# ${", "# ${");
        check("a\n${NONE:?name a port}", "line 2: NONE is not set: name a port");
        check("${PORT", "line 1: a variable has no `}`: write $$ for a dollar");
        check("5 $ 6", "line 1: a dollar without a variable: write $$ for a dollar");
        check("${PORT+x}", "line 1: ${PORT+x} is no variable: there are -, :-, ? and :? behind a name");
    }
}
