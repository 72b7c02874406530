//! Amounts of resources: reading Kubernetes quantities, adding them up, and what is lacking.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::api::resource::Quantity,
};

/// Resource name to amount, in thousandths.
pub type Amounts = BTreeMap<String, i128>;

/// A request that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// Such as `intel.com/sriov`.
    pub resource: String,
    /// What is asked for, in whole units (cpu: thousandths).
    pub requested: i128,
    /// What others have.
    pub used: i128,
    /// What there is.
    pub capacity: i128,
}

/// Reads a quantity such as `500m`, `2`, `1.5Gi` or `1e3` into thousandths, rounded up as Kubernetes does.
pub fn quantity(text: &str) -> Option<i128> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c)).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (numerator, denominator) = scale(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let denominator = denominator.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let scaled = digits.checked_mul(numerator)?.checked_mul(1000)?;
    Some(scaled.div_euclid(denominator) + i128::from(scaled.rem_euclid(denominator) != 0))
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    let power = |base: i128, n: u32| (base.pow(n), 1);
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => power(1000, 1),
        "M" => power(1000, 2),
        "G" => power(1000, 3),
        "T" => power(1000, 4),
        "P" => power(1000, 5),
        "E" => power(1000, 6),
        "Ki" => power(1024, 1),
        "Mi" => power(1024, 2),
        "Gi" => power(1024, 3),
        "Ti" => power(1024, 4),
        "Pi" => power(1024, 5),
        "Ei" => power(1024, 6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let ten = 10_i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, ten) } else { (ten, 1) }
        }
    })
}

/// Amounts of a map of quantities; what cannot be read is left out (the API server refused it long before).
pub fn amounts(map: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    map.into_iter().flatten().filter_map(|(name, q)| Some((name.clone(), quantity(&q.0)?))).collect()
}

/// What a container asks for.
pub fn container_requests(container: &Container) -> Amounts {
    amounts(container.resources.as_ref().and_then(|r| r.requests.as_ref()))
}

/// What a container is limited to.
pub fn container_limits(container: &Container) -> Amounts {
    amounts(container.resources.as_ref().and_then(|r| r.limits.as_ref()))
}

/// What a pod takes of a node, itself included.
pub fn pod_requests(pod: &Pod) -> Amounts {
    let mut total = Amounts::from([("pods".to_string(), 1000)]);
    for container in pod.spec.iter().flat_map(|s| &s.containers) {
        add(&mut total, &container_requests(container));
    }
    total
}

/// Adds `more` to `total`.
pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *total.entry(name.clone()).or_default() += amount;
    }
}

/// What is lacking to give `wanted` beside `used`: pods, cpu and memory first, as the real ones check.
pub fn lacking(allocatable: &Amounts, used: &Amounts, wanted: &Amounts) -> Vec<Lack> {
    let of = |map: &Amounts, name: &str| map.get(name).copied().unwrap_or(0);
    let mut lacks: Vec<Lack> = wanted
        .iter()
        .filter(|(_, amount)| **amount > 0)
        .filter(|(name, amount)| **amount + of(used, name) > of(allocatable, name))
        .map(|(name, amount)| Lack {
            resource: name.clone(),
            requested: units(name, *amount),
            used: units(name, of(used, name)),
            capacity: units(name, of(allocatable, name)),
        })
        .collect();
    lacks.sort_by_key(|lack| match lack.resource.as_str() {
        "pods" => 0,
        "cpu" => 1,
        "memory" => 2,
        _ => 3,
    });
    lacks
}

fn units(name: &str, amount: i128) -> i128 {
    if name == "cpu" { amount } else { amount / 1000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, thousandths) in [
            ("2", 2000),
            ("500m", 500),
            ("1.5", 1500),
            ("1Ki", 1_024_000),
            ("0.5Mi", 524_288_000),
            ("1e3", 1_000_000),
            ("2E-3", 2),
            ("1n", 1),
            ("110", 110_000),
        ] {
            assert_eq!(quantity(text), Some(thousandths), "{text}");
        }
        for bad in ["", "x", "1x", "1.2.3", "e", "99999999999999999999999999999999999999999Ei"] {
            assert_eq!(quantity(bad), None, "{bad}");
        }
    }

    #[test]
    fn lack() {
        let map =
            |list: &[(&str, i128)]| list.iter().map(|(n, a)| ((*n).to_string(), *a)).collect::<Amounts>();
        let allocatable = map(&[("cpu", 2000), ("a/b", 2000)]);
        let used = map(&[("cpu", 1500), ("a/b", 2000)]);
        let wanted = map(&[("a/b", 1000), ("cpu", 600), ("x/none", 0)]);
        let lacks = lacking(&allocatable, &used, &wanted);
        assert_eq!(
            lacks,
            [
                Lack { resource: "cpu".into(), requested: 600, used: 1500, capacity: 2000 },
                Lack { resource: "a/b".into(), requested: 1, used: 2, capacity: 2 },
            ]
        );
        assert!(lacking(&allocatable, &Amounts::new(), &wanted).is_empty());
    }
}
