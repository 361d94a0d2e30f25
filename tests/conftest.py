"""What every test shares: float32 unless a test asks for more, and fixtures for x64 and compile counting."""

from collections.abc import Iterator

import jax
import pytest

from probes import Compilations


@pytest.fixture
def x64() -> Iterator[None]:
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def compilations() -> Iterator[Compilations]:
    """A counter of the compilations JAX does while the test runs."""
    counter = Compilations()
    jax.monitoring.register_event_duration_secs_listener(counter)
    yield counter
    jax.monitoring.unregister_event_duration_listener(counter)
