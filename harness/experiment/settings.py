"""The target's own settings for one run: values that take the place of those in a service's environment.

Only variables that the service declares can be set, and only of services within the system: a run with
settings is the same target, set otherwise. Values are text; a number or a truth value is taken as it is
written, for ``0600`` or ``1.50`` may be neither 600 nor 1.5 to the service that reads it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.experiment.names import suggestion
from harness.experiment.problems import Problems
from harness.experiment.target import Service, TargetSpec
from harness.experiment.yaml_reader import Document, KeyPath

SETTINGS = "settings"  # the key of an experiment
DEPTH = 3  # settings, service, variable


def with_spelt_settings(document: Document) -> Document:
    """The same with each setting that is no text as it is written."""
    spelt = {
        path: text
        for path, text in document.spelt.items()
        if len(path) == DEPTH and path[0] == SETTINGS and _at(document, path) is not None
    }
    if not spelt:
        return document
    data = copy.deepcopy(document.data)
    for (_, service, variable), text in spelt.items():
        data[SETTINGS][service][variable] = text
    return replace(document, data=data)


def _at(document: Document, path: KeyPath) -> Any:
    _, service, variable = path
    return document.data[SETTINGS][service][variable]


def check_settings(settings: Any, spec: TargetSpec, problems: Problems) -> None:
    """Names of services and variables. What is no mapping has been reported with the whole."""
    for name, values in settings.items() if isinstance(settings, Mapping) else ():
        service = _service(name, spec, problems)
        if service is None or not isinstance(values, Mapping):
            continue
        for variable in values:
            if variable not in service.environment:
                problems.add(
                    f"{name} has no setting {variable!r}",
                    (SETTINGS, name, variable),
                    key=True,
                    hint=suggestion(variable, service.environment),
                )


def _service(name: str, spec: TargetSpec, problems: Problems) -> Service | None:
    service = spec.services.get(name)
    if service is None:
        inside = [other.name for other in spec.services.values() if not other.witness]
        problems.add(f"unknown service {name!r}", (SETTINGS, name), key=True, hint=suggestion(name, inside))
    elif service.witness:
        problems.add(
            f"{name!r} is a witness: it stands outside the system, and has no settings",
            (SETTINGS, name),
            key=True,
            hint="a fault on the link to it is what can be done about it",
        )
        return None
    return service


def with_settings(spec: TargetSpec, settings: Mapping[str, Mapping[str, str]]) -> TargetSpec:
    """The target with these values (checked before) in its services' environments."""
    services = dict(spec.services)
    for name, values in settings.items():
        environment = {**services[name].environment, **values}
        services[name] = services[name].model_copy(update={"environment": environment})
    return spec.model_copy(update={"services": services})
