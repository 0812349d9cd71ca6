//! Why this kernel says that it drops packets: the names of its enum skb_drop_reason, whose numbers differ from
//! kernel to kernel.

use std::collections::HashMap;

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Enum;

use crate::model::Loss;

/// The names by their numbers.
pub struct DropReasons(HashMap<u16, String>);

impl DropReasons {
    /// None of them where the kernel does not say.
    pub fn of_kernel() -> Self {
        DropReasons(Btf::from_vmlinux().map_or_else(|_| HashMap::new(), |btf| names(&btf)))
    }

    /// What the ledger's reason and the kernel's come to. 0: the kernel gave none.
    pub fn of(&self, loss: Loss, number: u16) -> (Loss, Option<String>) {
        let name = (number > 0).then(|| match self.0.get(&number) {
            Some(name) => name.clone(),
            None => number.to_string(),
        });
        let loss = match (loss, name.as_deref()) {
            // As natively: the device left the frame over, and the kernel does not say why.
            (Loss::Other, None) => Loss::QueueFull,
            (Loss::Other, Some(name)) if is_of_queue(name) => Loss::QueueFull,
            (Loss::Other, Some("PKT_TOO_BIG")) => Loss::Mtu,
            _ => loss,
        };
        (loss, name)
    }
}

/// Whether a queue was full. Queueing disciplines have got names of their own for that in time.
fn is_of_queue(name: &str) -> bool {
    let disciplines = ["QDISC_", "FQ_", "CAKE_"];
    ["FULL_RING", "CPU_BACKLOG"].contains(&name)
        || disciplines.iter().any(|prefix| name.starts_with(prefix))
}

fn names(btf: &Btf) -> HashMap<u16, String> {
    let Some(reasons) = btf.type_by_name::<Enum>("skb_drop_reason") else {
        return HashMap::new();
    };
    let known = reasons.iter().filter_map(|reason| {
        let name = reason.name?.to_str()?.strip_prefix("SKB_DROP_REASON_")?;
        Some((u16::try_from(reason.value).ok()?, name.to_string()))
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_names_its_reasons() {
        let reasons = DropReasons::of_kernel();
        let number = |wanted: &str| {
            let found = reasons.0.iter().find(|(_, name)| *name == wanted);
            *found.expect("the kernel has it").0
        };
        let of = |loss, name| reasons.of(loss, number(name));
        assert_eq!(
            of(Loss::Other, "QDISC_DROP"),
            (Loss::QueueFull, Some("QDISC_DROP".into()))
        );
        assert_eq!(of(Loss::LinkDown, "QDISC_DROP").0, Loss::LinkDown);
        assert_eq!(of(Loss::Other, "PKT_TOO_BIG").0, Loss::Mtu);
        assert_eq!(of(Loss::Other, "NOMEM").0, Loss::Other);
        assert!(is_of_queue("FQ_BAND_LIMIT") && !is_of_queue("NOMEM"));
        assert_eq!(reasons.of(Loss::Other, 0), (Loss::QueueFull, None));
        let unknown = Some(u16::MAX.to_string());
        assert_eq!(reasons.of(Loss::Other, u16::MAX), (Loss::Other, unknown));
    }
}
