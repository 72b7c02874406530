//! As much of Helm as the chart here uses: values, the release's namespace, and the functions `toYaml` and `indent`.

use std::collections::HashMap;

use anyhow::{Context as _, Result, anyhow};
use gtmpl::{Context, FuncError, Template};
use gtmpl_value::Value as Data;
use serde_json::{Map, Value};

use crate::{deploy, documents, parse, read, yaml_files};

/// The objects of the chart, its definitions included, with the chart's own values changed by these.
///
/// # Errors
/// When a template cannot be rendered, or gives no YAML.
pub fn render(values: &Value) -> Result<Vec<Value>> {
    let chart = deploy().join("chart/fairlead");
    let [mut all] =
        documents(&chart.join("values.yaml"))?.try_into().ok().context("values are one document")?;
    merge(&mut all, values)?;
    let mut context = HashMap::new();
    context.insert("Values".to_owned(), data(&all));
    let release = HashMap::from([("Namespace".to_owned(), Data::from("fairlead-system"))]);
    context.insert("Release".to_owned(), Data::Object(release));
    let context = Context::from(Data::Object(context));
    let mut objects = Vec::new();
    for file in yaml_files(&chart.join("crds"))? {
        objects.extend(documents(&file)?);
    }
    for file in yaml_files(&chart.join("templates"))? {
        let rendered = template(&read(&file)?, &context).with_context(|| file.display().to_string())?;
        objects.extend(parse(&rendered).with_context(|| format!("{}:\n{rendered}", file.display()))?);
    }
    Ok(objects)
}

/// The values of a file in the chart's folder `platforms`.
///
/// # Errors
/// When it cannot be read.
pub fn platform(name: &str) -> Result<Value> {
    let file = deploy().join(format!("chart/fairlead/platforms/{name}.yaml"));
    let [values] = documents(&file)?.try_into().ok().context("values are one document")?;
    Ok(values)
}

fn template(text: &str, context: &Context) -> Result<String> {
    let mut template = Template::default();
    template.add_func("toYaml", to_yaml);
    template.add_func("indent", indent);
    template.parse(text).map_err(|error| anyhow!("{error}"))?;
    template.render(context).map_err(|error| anyhow!("{error}"))
}

/// Changes values as Helm does: objects key by key, everything else as a whole. A key that the chart does not have is refused,
/// except in objects that are empty by default.
fn merge(values: &mut Value, changes: &Value) -> Result<()> {
    match (values, changes) {
        (Value::Object(values), Value::Object(changes)) if !values.is_empty() => {
            for (key, change) in changes {
                let value = values.get_mut(key).with_context(|| format!("the chart has no value {key}"))?;
                merge(value, change)?;
            }
        }
        (value, change) => *value = change.clone(),
    }
    Ok(())
}

fn data(value: &Value) -> Data {
    match value {
        Value::Null => Data::Nil,
        Value::Bool(value) => Data::Bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => Data::from(number),
            (_, Some(number), _) => Data::from(number),
            (_, _, number) => Data::from(number.unwrap_or_default()),
        },
        Value::String(text) => Data::String(text.clone()),
        Value::Array(values) => Data::Array(values.iter().map(data).collect()),
        Value::Object(fields) => {
            Data::Object(fields.iter().map(|(key, value)| (key.clone(), data(value))).collect())
        }
    }
}

fn value(data: &Data) -> Result<Value, FuncError> {
    Ok(match data {
        Data::Nil | Data::NoValue => Value::Null,
        Data::Bool(value) => Value::Bool(*value),
        Data::String(text) => Value::String(text.clone()),
        Data::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => number.into(),
            (None, number) => number.into(),
        },
        Data::Array(values) => Value::Array(values.iter().map(value).collect::<Result<_, _>>()?),
        Data::Object(fields) | Data::Map(fields) => {
            let fields = fields.iter().map(|(key, data)| Ok((key.clone(), value(data)?)));
            Value::Object(fields.collect::<Result<Map<_, _>, FuncError>>()?)
        }
        Data::Function(_) => return Err(FuncError::Generic("a function is no YAML".into())),
    })
}

fn to_yaml(arguments: &[Data]) -> Result<Data, FuncError> {
    let [one] = arguments else { return Err(FuncError::ExactlyXArgs("toYaml".into(), 1)) };
    let text =
        serde_saphyr::to_string(&value(one)?).map_err(|error| FuncError::Generic(error.to_string()))?;
    Ok(text.trim_end().into())
}

fn indent(arguments: &[Data]) -> Result<Data, FuncError> {
    let [Data::Number(width), Data::String(text)] = arguments else {
        return Err(FuncError::Generic("indent takes a number and a text".into()));
    };
    let width = usize::try_from(width.as_u64().unwrap_or_default()).unwrap_or_default();
    let margin = " ".repeat(width);
    Ok((margin.clone() + &text.replace('\n', &format!("\n{margin}"))).into())
}
