//! About the input itself, and about suppressions.

use crate::rule::{Check, Rule, Severity};

/// A file that cannot be read.
pub(crate) static UNREADABLE: Rule = Rule {
    id: "LZ-INP-001",
    section: "Infrastructure as Code: Terraform",
    erratum: None,
    severity: Severity::Error,
    title: "Every file can be read",
    why: "What cannot be read cannot be judged, neither here nor by Terraform or Azure DevOps. Nothing is concluded from what a directory with such a file does not contain.",
    fix: "Mend the syntax, resolve the merge, or save the file as UTF-8.",
    bad: &[("main.tf", "resource \"azurerm_service_plan\" \"p\" {\n  sku_name =\n}\n")],
    good: &[("main.tf", "resource \"azurerm_service_plan\" \"p\" {\n  sku_name = \"P1v3\"\n}\n")],
    check: Check::Reading,
};

/// A suppression without a reason.
pub(crate) static NO_REASON: Rule = Rule {
    id: "LZ-INP-002",
    section: "Infrastructure as Code: Terraform",
    erratum: None,
    severity: Severity::Error,
    title: "A suppression names its rule and gives a reason",
    why: "The next reader must be able to tell whether the exception still holds.",
    fix: "Write `# lazuli:ignore LZ-APP-004 the vendor's client needs sticky sessions until 2027`.",
    bad: &[(
        "main.tf",
        "resource \"azurerm_linux_web_app\" \"a\" {\n  client_affinity_enabled = true # lazuli:ignore LZ-APP-004\n}\n",
    )],
    good: &[(
        "main.tf",
        "resource \"azurerm_linux_web_app\" \"a\" {\n  client_affinity_enabled = true # lazuli:ignore LZ-APP-004 the vendor's client needs it\n}\n",
    )],
    check: Check::Reading,
};

/// A suppression that suppresses nothing.
pub(crate) static UNUSED: Rule = Rule {
    id: "LZ-INP-003",
    section: "Infrastructure as Code: Terraform",
    erratum: None,
    severity: Severity::Note,
    title: "A suppression suppresses something",
    why: "One that no longer does hides the next breach at the same place.",
    fix: "Remove the comment.",
    bad: &[(
        "main.tf",
        "resource \"azurerm_linux_web_app\" \"a\" {\n  client_affinity_enabled = false # lazuli:ignore LZ-APP-004 once needed\n}\n",
    )],
    good: &[(
        "main.tf",
        "resource \"azurerm_linux_web_app\" \"a\" {\n  client_affinity_enabled = true # lazuli:ignore LZ-APP-004 still needed\n}\n",
    )],
    check: Check::Reading,
};
