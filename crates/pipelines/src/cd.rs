//! `cd.yml`: build, staging slot, smoke test, swap, watch.

use lazuli_standard::blueprint::SiteRole;
use lazuli_standard::manifest::Hosting;

use crate::{Source, fill, quote};

pub(crate) fn render(source: &Source<'_>) -> String {
    let manifest = source.manifest;
    let b = &source.prod;
    let scripts = source.file("azure-pipelines/scripts");
    let hosted = manifest.frontend.as_ref().filter(|f| f.hosting == Hosting::StaticWebApp);
    let frontend_build = match &manifest.frontend {
        None => String::new(),
        Some(f) => fill(
            r"
          - task: UseNode@1
            displayName: Use Node
            inputs:
              version: 22.x

          - bash: |
              set -euo pipefail
              npm ci
              npm run build
            displayName: Build the front end
            workingDirectory: <<DIRECTORY>>
",
            &[("DIRECTORY", &quote(&f.directory))],
        ),
    };
    let frontend_publish = match hosted {
        None => String::new(),
        Some(f) => fill(
            r"
          - bash: |
              set -euo pipefail
              cp '<<CONFIG>>' '<<OUTPUT>>/staticwebapp.config.json'
            displayName: Configure the front end

          - publish: <<OUTPUT>>
            displayName: Publish the front end
            artifact: frontend
",
            &[
                ("CONFIG", &source.file("static-web-app/prod/staticwebapp.config.json")),
                ("OUTPUT", &format!("{}/{}", f.directory, f.output)),
            ],
        ),
    };
    // What the web app serves goes into its package, though git does not track it.
    let built = match (&manifest.frontend, hosted) {
        (Some(f), None) => {
            format!("            env:\n              BUILT: {}/{}\n", f.directory, f.output)
        }
        _ => String::new(),
    };
    let migrate = |which: &str| match &manifest.database.migrate {
        None => String::new(),
        Some(_) => fill(
            r"
                - task: AzureCLI@2
                  displayName: Migrate <<WHICH>>'s database
                  inputs:
                    azureSubscription: $(azureSubscription)
                    scriptType: bash
                    scriptLocation: inlineScript
                    inlineScript: bash '<<SCRIPTS>>/migrate.sh' '$(appServiceName)' staging <<WHICH>>
",
            &[("WHICH", which), ("SCRIPTS", &scripts)],
        ),
    };
    let mut background = String::new();
    for site in b.sites.iter().filter(|s| s.role != SiteRole::Backend) {
        background.push_str(&fill(
            r"
          # Answers no users, so it has no slot.
          - task: AzureWebApp@1
            displayName: Deploy to <<NAME>>
            inputs:
              azureSubscription: $(azureSubscription)
              appType: webAppLinux
              appName: <<NAME>>
              resourceGroupName: $(resourceGroup)
              package: $(Pipeline.Workspace)/app/app.zip
",
            &[("NAME", &site.name)],
        ));
    }
    if let (Some(_), Some(web)) = (hosted, &b.frontend) {
        background.push_str(&fill(
            r###"
          - download: current
            displayName: Fetch the front end
            artifact: frontend

          # The token is Azure's to give, to whoever may; the log shows ***.
          - task: AzureCLI@2
            displayName: Fetch the front end's deployment token
            inputs:
              azureSubscription: $(azureSubscription)
              scriptType: bash
              scriptLocation: inlineScript
              inlineScript: |
                set -euo pipefail
                key=$(az staticwebapp secrets list --name '<<NAME>>' --resource-group "$(resourceGroup)" --query properties.apiKey --output tsv)
                echo "##vso[task.setvariable variable=frontendKey;issecret=true]$key"

          - task: AzureStaticWebApp@0
            displayName: Deploy the front end
            inputs:
              workingDirectory: $(Pipeline.Workspace)/frontend
              app_location: /
              skip_app_build: true
              skip_api_build: true
              azure_static_web_apps_api_token: $(frontendKey)
"###,
            &[("NAME", &web.name)],
        ));
    }
    let background = if background.is_empty() {
        background
    } else {
        format!(
            r"
  # Beside the watch, not before it: a worker that cannot be deployed leaves production watched. What
  # this stage does was approved with the swap.
  - stage: Background
    displayName: Deploy what stands beside the web app
    dependsOn: SwapToProduction
    jobs:
      - job: Background
        timeoutInMinutes: '60'
        steps:
          - download: current
            displayName: Fetch the package
            artifact: app
{background}"
        )
    };
    fill(
        CD,
        &[
            ("CONNECTION", &quote(&manifest.pipelines.service_connection)),
            ("SITE", &b.backend().name),
            ("GROUP", &b.resource_group),
            ("SCRIPTS", &scripts),
            ("PLACE", if source.place.is_empty() { "." } else { source.place }),
            ("BUILT", &built),
            ("FRONTEND_BUILD", &frontend_build),
            ("FRONTEND_PUBLISH", &frontend_publish),
            ("MIGRATE_STAGING", &migrate("staging")),
            ("MIGRATE_PRODUCTION", &migrate("production")),
            ("BACKGROUND", &background),
        ],
    )
}

const CD: &str = r"
# Every merge to main: package, staging slot, smoke test, swap, watch. `lazuli deploy` does the same
# from a terminal, with a journal and a resume.

trigger:
  branches:
    include:
      - main
  paths:
    exclude:
      - docs/**
      - '*.md'

pr: none

# One release at a time.
lockBehavior: sequential

pool:
  vmImage: ubuntu-latest

variables:
  # An Azure Resource Manager connection by workload identity federation: no secret to keep.
  azureSubscription: <<CONNECTION>>
  appServiceName: <<SITE>>
  resourceGroup: <<GROUP>>

stages:
  - stage: Build
    displayName: Build and package
    jobs:
      - job: Build
        timeoutInMinutes: '30'
        steps:
          - checkout: self
            fetchDepth: '1'

          - template: templates/python.yml

          - bash: |
              set -euo pipefail
              source .venv/bin/activate
              uv pip install pytest
              pytest -m 'not integration' --tb=short --junitxml=test-results.xml
            displayName: Run tests

          - task: PublishTestResults@2
            displayName: Publish test results
            condition: succeededOrFailed()
            inputs:
              testResultsFormat: JUnit
              testResultsFiles: '**/test-results.xml'
              failTaskOnFailedTests: true

<<FRONTEND_BUILD>>

          - bash: bash '<<SCRIPTS>>/package.sh' '<<PLACE>>' '$(Build.ArtifactStagingDirectory)/app.zip'
            displayName: Package the app alone
<<BUILT>>

          - publish: $(Build.ArtifactStagingDirectory)/app.zip
            displayName: Publish the package
            artifact: app

<<FRONTEND_PUBLISH>>

  - stage: DeployStaging
    displayName: Deploy to the staging slot
    dependsOn: Build
    jobs:
      - deployment: DeployStaging
        environment: staging
        strategy:
          runOnce:
            deploy:
              steps:
                # A deployment job checks nothing out by itself.
                - checkout: self

                - download: current
                  displayName: Fetch the package
                  artifact: app

                - task: AzureWebApp@1
                  displayName: Deploy to the staging slot
                  inputs:
                    azureSubscription: $(azureSubscription)
                    appType: webAppLinux
                    appName: $(appServiceName)
                    deployToSlotOrASE: true
                    resourceGroupName: $(resourceGroup)
                    slotName: staging
                    package: $(Pipeline.Workspace)/app/app.zip

                # By the app itself, inside the VNet: no agent of Microsoft's reaches the database.
<<MIGRATE_STAGING>>

  - stage: SmokeTest
    displayName: Test the staging slot
    dependsOn: DeployStaging
    jobs:
      - job: SmokeTest
        timeoutInMinutes: '10'
        steps:
          - bash: bash '<<SCRIPTS>>/smoke.sh' 'https://$(appServiceName)-staging.azurewebsites.net'
            displayName: Health, readiness, critical paths

  - stage: SwapToProduction
    displayName: Swap to production
    dependsOn: SmokeTest
    jobs:
      - deployment: SwapSlots
        # Approvals and checks hang on this environment.
        environment: production
        strategy:
          runOnce:
            deploy:
              steps:
                - checkout: self

<<MIGRATE_PRODUCTION>>

                - task: AzureAppServiceManage@0
                  displayName: Swap staging and production
                  inputs:
                    azureSubscription: $(azureSubscription)
                    Action: Swap Slots
                    WebAppName: $(appServiceName)
                    ResourceGroupName: $(resourceGroup)
                    SourceSlot: staging

<<BACKGROUND>>

  # No environment: its approvals would hold up the watch.
  - stage: Watch
    displayName: Watch, and roll back
    dependsOn: SwapToProduction
    jobs:
      - job: Watch
        timeoutInMinutes: '30'
        steps:
          - checkout: self

          # 15 minutes: 5xx above 5 % or a failing health check swaps back.
          - task: AzureCLI@2
            displayName: Watch production, and roll back when it fails
            inputs:
              azureSubscription: $(azureSubscription)
              scriptType: bash
              scriptLocation: inlineScript
              inlineScript: bash '<<SCRIPTS>>/watch.sh' '$(appServiceName)' '$(resourceGroup)'
";
