"""Gradients of a module, for saves between the micro-batches of one step."""

from __future__ import annotations

from typing import Any

from hpc_search.errors import UsageError


class Gradients:
    """The gradients of *module*, as something to give to ``trial.save`` and ``trial.restore``.

    A ``state_dict`` has none. Only a trial that saves between the backward passes that one optimizer step
    sums up needs them::

        gradients = Gradients(model)
        step = trial.restore(model=model, optimizer=optimizer, gradients=gradients)
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    def state_dict(self) -> dict[str, Any]:
        """Return the gradient of each parameter that has one, by name."""
        return {name: p.grad for name, p in self._module.named_parameters() if p.grad is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the gradients to *state*, those it does not have to None.

        Raises:
            UsageError: The module has no such parameter.
        """
        parameters = dict(self._module.named_parameters())
        unknown = ", ".join(sorted(state.keys() - parameters.keys()))
        if unknown:
            raise UsageError(f"gradients of {unknown} were saved; this module has no such parameters")
        for name, parameter in parameters.items():
            parameter.grad = state[name].to(parameter.device) if name in state else None
