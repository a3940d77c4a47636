//! `ci.yml`, and the template of a Python environment that it shares with `cd.yml`.

use crate::{Source, fill, quote};

/// The back end's code: `modules/backend` for `modules.backend.main:app`.
fn code(source: &Source<'_>) -> String {
    let module = source.manifest.backend.app.split(':').next().unwrap_or_default();
    match module.rsplit_once('.') {
        Some((package, _)) => package.replace('.', "/"),
        None => format!("{module}.py"),
    }
}

pub(crate) fn render(source: &Source<'_>) -> String {
    fill(
        CI,
        &[
            ("PYTHON_TEMPLATE", "templates/python.yml"),
            ("PYTHON", &quote(&source.manifest.python)),
            ("CODE", &code(source)),
            ("PLACE", if source.place.is_empty() { "." } else { source.place }),
        ],
    )
}

const CI: &str = r"
# Every pull request and every push to develop and main: lint, types, tests, security scans.

trigger:
  branches:
    include:
      - develop
      - main
  paths:
    exclude:
      - docs/**
      - '*.md'

pr:
  branches:
    include:
      - develop
      - main

pool:
  vmImage: ubuntu-latest

variables:
  code: <<CODE>>

jobs:
  - job: Test
    displayName: Lint, types, tests
    timeoutInMinutes: '30'
    steps:
      - template: <<PYTHON_TEMPLATE>>

      - bash: |
          set -euo pipefail
          source .venv/bin/activate
          uv pip install black isort flake8 mypy pytest pytest-cov
          black --check '$(code)' tests
          isort --check '$(code)' tests
          flake8 '$(code)' tests
        displayName: Lint

      - bash: |
          set -euo pipefail
          source .venv/bin/activate
          mypy '$(code)'
        displayName: Types

      - bash: |
          set -euo pipefail
          source .venv/bin/activate
          pytest --junitxml=test-results.xml --cov='$(code)' --cov-report=xml --cov-report=term-missing -m 'not integration'
        displayName: Unit tests

      - task: PublishTestResults@2
        displayName: Publish test results
        condition: succeededOrFailed()
        inputs:
          testResultsFormat: JUnit
          testResultsFiles: '**/test-results.xml'
          failTaskOnFailedTests: true

      - task: PublishCodeCoverageResults@2
        displayName: Publish coverage
        condition: succeededOrFailed()
        inputs:
          summaryFileLocation: '**/coverage.xml'

  - job: Scan
    displayName: Security scans
    timeoutInMinutes: '20'
    steps:
      - template: <<PYTHON_TEMPLATE>>

      - bash: |
          set -euo pipefail
          source .venv/bin/activate
          uv pip install pip-audit bandit
          pip-audit -r requirements.txt
        displayName: Known vulnerabilities in dependencies

      - bash: |
          set -euo pipefail
          source .venv/bin/activate
          bandit -q -r '$(code)'
        displayName: Insecure code

      - bash: |
          set -euo pipefail
          source .venv/bin/activate
          uv pip install checkov
          checkov --quiet --compact --framework terraform -d '<<PLACE>>/terraform' --soft-fail
        displayName: Insecure infrastructure
";

pub(crate) fn python_template(source: &Source<'_>) -> String {
    fill(
        r"
# A Python of the runtime's version, with the app's requirements in .venv.

steps:
  - task: UsePythonVersion@0
    displayName: Use Python <<VERSION>>
    inputs:
      versionSpec: <<PYTHON>>

  - bash: |
      set -euo pipefail
      python -m pip install --disable-pip-version-check --quiet uv
      uv venv
      if [ -f requirements.txt ]; then
        uv pip install -r requirements.txt
      else
        uv pip install .
      fi
      if [ -f requirements-dev.txt ]; then
        uv pip install -r requirements-dev.txt
      fi
    displayName: Install dependencies
",
        &[("VERSION", &source.manifest.python), ("PYTHON", &quote(&source.manifest.python))],
    )
}
