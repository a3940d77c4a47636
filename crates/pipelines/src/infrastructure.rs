//! `infrastructure.yml`: plan on pull requests, apply on merge.

use crate::{Source, fill, quote};

pub(crate) fn render(source: &Source<'_>) -> String {
    let terraform = source.file("terraform");
    let scripts = source.file("azure-pipelines/scripts");
    let mut stages = String::new();
    let mut previous: Option<String> = None;
    for environment in source.environments {
        let name = match environment.as_str() {
            "dev" => "Dev",
            "staging" => "Staging",
            _ => "Prod",
        };
        stages.push_str(&fill(
            r"
  - stage: Plan<<NAME>>
    displayName: Plan <<ENV>>
    dependsOn: []
    jobs:
      - job: Plan
        timeoutInMinutes: '30'
        steps:
          - template: templates/terraform.yml
            parameters:
              action: plan
              environment: <<ENV>>

  - stage: Apply<<NAME>>
    displayName: Apply <<ENV>>
    <<DEPENDS>>
    # After the merge, and never for a pull request.
    condition: and(succeeded(), ne(variables['Build.Reason'], 'PullRequest'), eq(variables['Build.SourceBranch'], 'refs/heads/main'))
    jobs:
      - deployment: Apply
        environment: infrastructure-<<ENV>>
        timeoutInMinutes: '120'
        strategy:
          runOnce:
            deploy:
              steps:
                - checkout: self

                - template: templates/terraform.yml
                  parameters:
                    action: apply
                    environment: <<ENV>>
",
            &[
                ("NAME", name),
                ("ENV", environment.as_str()),
                (
                    "DEPENDS",
                    &match &previous {
                        Some(stage) => {
                            format!("dependsOn:\n      - Plan{name}\n      - {stage}")
                        }
                        None => format!("dependsOn: Plan{name}"),
                    },
                ),
            ],
        ));
        previous = Some(format!("Apply{name}"));
    }
    fill(
        r"
# Terraform: planned on every pull request, applied after the merge, environment by environment.

trigger:
  branches:
    include:
      - main
  paths:
    include:
      - <<TERRAFORM>>/*

pr:
  branches:
    include:
      - main
  paths:
    include:
      - <<TERRAFORM>>/*

lockBehavior: sequential

# Terraform writes secrets into the vault and reads them back, and the vault answers inside the VNet
# alone: these agents are inside. Microsoft's are not.
pool:
  name: <<POOL>>

variables:
  # An Azure Resource Manager connection by workload identity federation: no secret to keep.
  azureSubscription: <<CONNECTION>>
  terraformDirectory: <<TERRAFORM>>
  terraformScript: <<SCRIPTS>>/terraform.sh

stages:
<<STAGES>>
",
        &[
            ("TERRAFORM", &terraform),
            ("SCRIPTS", &scripts),
            ("POOL", &quote(&source.manifest.pipelines.pool)),
            ("CONNECTION", &quote(&source.manifest.pipelines.service_connection)),
            ("STAGES", &stages),
        ],
    )
}

pub(crate) fn template(_source: &Source<'_>) -> String {
    r"
# One run of Terraform in one environment.

parameters:
  - name: action
    type: string
    values:
      - plan
      - apply
  - name: environment
    type: string
    values:
      - dev
      - staging
      - prod

steps:
  # The connection's federated token reaches Terraform through the environment and is never printed.
  - task: AzureCLI@2
    displayName: Terraform ${{ parameters.action }}, ${{ parameters.environment }}
    inputs:
      azureSubscription: $(azureSubscription)
      scriptType: bash
      scriptLocation: inlineScript
      inlineScript: bash '$(terraformScript)' ${{ parameters.action }} ${{ parameters.environment }} '$(terraformDirectory)'
      addSpnToEnvironment: true
"
    .to_owned()
}
