"""Programs that need several devices, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def run_on_devices(count: int, *arguments: str, **environment: str) -> str:
    """Run python with these arguments on `count` forced host devices and return what it printed.

    Raises AssertionError with the end of its error output where it fails.
    """
    flags = f"--xla_force_host_platform_device_count={count} --xla_cpu_collective_call_terminate_timeout_seconds=300"
    env = {
        **os.environ,
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]),
        # A device that waits in a collective holds a thread of XLA's pool, which has only one per device or core:
        # whatever else needs one meanwhile would leave the last device without.
        "NPROC": str(8 * count),
        **environment,
    }
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
