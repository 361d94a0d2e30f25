"""Write authors.npz: what the authors' own programs do on the rows of rows_authors.py.

Run in an environment with torch==2.13.0 and numpy, from the folder tests, with a folder that holds checkouts of

    facebookresearch/madgrad 0d858b9, juntang-zhuang/ACProp-Optimizer a880843, Liuhong99/Sophia a7e1572,
    amirgholami/adahessian 85ebc00, AGI-Arena/MARS 4831e28, iShohei220/adopt 6468572, sail-sg/Adan 2c65bea,
    Luolc/AdaBound 2e928c3, facebookresearch/qhoptim e81dea3, bojone/tiger 43fb6b6, Z-T-WANG/LaProp-Optimizer a419916,
    nazya/KATE 97d8503, juntang-zhuang/Adabelief-Optimizer 2855178, apple/ml-ademamix c3d73c0,
    NVIDIA/DeepLearningExamples 729963d

each under the name of its repository:

    python -m golden.make_authors CHECKOUTS

Needed only to make the file anew, never by the tests. Everything is float64 on the CPU. The programs run as they are,
but for Sophia's, from which the constant 1e-15 is taken out, Tiger's, which gets numpy in the place of TensorFlow, and
what prints or wants a GPU.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from oracles import hessian_of

from . import inputs
from .row import Row
from .rows_authors import AUTHORS

Tree = dict[str, np.ndarray]
BELIEF = "Adabelief-Optimizer/pypi_packages/adabelief_pytorch0.2.1/adabelief_pytorch/AdaBelief.py"
NOVOGRAD = "DeepLearningExamples/PyTorch/SpeechRecognition/Jasper/common/optimizers.py"
SOPHIA_BATCH = 64  # of the program's estimate, which is the square of a gradient times it
CHECKOUTS = Path()


def program(path: str, change: tuple[str, str] = ("", "")) -> ModuleType:
    """A file of the checkouts as a module, a piece of its text changed."""
    file = CHECKOUTS / path
    spec = importlib.util.spec_from_file_location(file.stem + "_of_the_authors", file)
    made, text = importlib.util.module_from_spec(spec), file.read_text("utf-8")
    assert change[0] in text
    exec(compile(text.replace(*change) if change[0] else text, str(file), "exec"), made.__dict__)
    return made


def printing() -> None:
    """Stand-ins for two packages that only colour what is printed."""
    names = SimpleNamespace(RED="", BLUE="", GREEN="", RESET_ALL="")
    packages = {
        "tabulate": {"tabulate": lambda *_, **__: ""},
        "colorama": {"Fore": names, "Back": names, "Style": names},
    }
    for name, content in packages.items():
        sys.modules.setdefault(name, ModuleType(name)).__dict__.update(content)


def tensorflow() -> None:
    """A stand-in with what Tiger takes of TensorFlow, on arrays of numpy."""

    class Optimizer:
        def __init__(self, name: str, **_: Any):
            self.iterations, self.slots = np.float64(0), {}

        def add_slot(self, var: "Variable", name: str) -> None:
            self.slots[var.name, name] = Variable(var.name, np.zeros_like(var.value))

        def get_slot(self, var: "Variable", name: str) -> "Variable":
            return self.slots[var.name, name]

        def _prepare(self, _: Any) -> None:
            pass

    def assign(var: "Variable", value: np.ndarray) -> np.ndarray:
        var.value = np.asarray(value)
        return var.value

    class Anything:
        def __init__(self, *_: Any):
            pass

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: Any) -> None:
            pass

    double = {"cast": lambda x, _: np.float64(x), "float32": None, "assign": assign, "control_dependencies": Anything}
    names = ("sqrt", "where", "equal", "ones_like", "zeros_like", "sign")
    functions = {name: getattr(np, name) for name in names} | {"is_nan": np.isnan, "reduce_any": np.any}
    functions["reduce_mean"] = lambda x, axis, keepdims: np.mean(x, axis=axis, keepdims=keepdims)
    keras = SimpleNamespace(optimizers=SimpleNamespace(Optimizer=Optimizer))
    sys.modules.setdefault("tensorflow", ModuleType("tensorflow")).__dict__.update(functions, **double, keras=keras)


class Variable:
    """What Tiger takes for a variable of TensorFlow."""

    dtype = None

    def __init__(self, name: str, value: np.ndarray):
        self.name, self.value = name, value

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self.value)

    def __mul__(self, other: Any) -> np.ndarray:
        return other * self.value

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> np.ndarray:
        return self.value - other

    def __pow__(self, power: float) -> np.ndarray:
        return self.value**power


def betas(rule: dict, defaults: tuple[float, ...] = (0.9, 0.999)) -> dict:
    """b1, b2, … of a row as these programs take them; the other hyperparameters as they are."""
    found = tuple(rule.get(f"b{i + 1}", b) for i, b in enumerate(defaults))
    return {"betas": found, **{name: x for name, x in rule.items() if name not in ("b1", "b2", "b3")}}


def only(given: dict, *names: str) -> dict:
    return {name: x for name, x in given.items() if name not in names}


def madgrad(ps: list, row: Row, decay: float) -> Any:
    return program("madgrad/madgrad/madgrad.py").MADGRAD(ps, row.learning_rate, weight_decay=decay, **row.rule)


def acprop(ps: list, row: Row, decay: float) -> Any:
    printing()
    given = only(betas(row.rule), "eps_root")
    return program("ACProp-Optimizer/optimizers/ACProp.py").ACProp(
        ps, row.learning_rate, weight_decay=decay, rectify=False, **given
    )


def adabelief(ps: list, row: Row, decay: float) -> Any:
    printing()
    given = only(betas(row.rule), "eps_root")  # the program's eps is both
    return program(BELIEF).AdaBelief(
        ps, row.learning_rate, weight_decay=decay, rectify=False, print_change_log=False, **given
    )


def sophia(ps: list, row: Row, decay: float) -> Any:
    made = program("Sophia/sophia.py", ("1e-15", "1e-30")).SophiaG
    given = only(betas(row.rule, (0.96, 0.99)), "gamma", "eps")
    opt = made(ps, row.learning_rate, rho=row.rule["gamma"], weight_decay=decay, **given)

    def step() -> None:
        grads = [p.grad.clone() for p in ps]
        for p, g in zip(ps, grads, strict=True):
            p.grad = torch.tensor(np.sqrt(hessian_of(g.numpy()) / SOPHIA_BATCH))
        opt.update_hessian()
        for p, g in zip(ps, grads, strict=True):
            p.grad = g
        opt.step(bs=SOPHIA_BATCH)

    return SimpleNamespace(step=step, param_groups=opt.param_groups)


def adahessian(ps: list, row: Row, decay: float) -> Any:
    parts = row.rule.get("average") == "matrices"
    name = "instruction/adahessian.py" if parts else "image_classification/optim_adahessian.py"
    change = (", device='cuda'", "") if parts else ("", "")
    opt = program(f"adahessian/{name}", change).Adahessian(
        ps, row.learning_rate, weight_decay=decay, **only(betas(row.rule), "average", "window")
    )

    def step() -> None:
        """On a loss whose gradient and Hessian are what they are to be."""
        grads, loss = [p.grad.clone() for p in ps], torch.zeros(())
        for p, g in zip(ps, grads, strict=True):
            p.grad = None
            away = p - p.detach().clone()
            loss = loss + (g * p).sum() + 0.5 * (torch.tensor(hessian_of(g.numpy())) * away**2).sum()
        loss.backward(create_graph=True)
        opt.step()

    return SimpleNamespace(step=step, param_groups=opt.param_groups)


def mars(ps: list, row: Row, decay: float) -> Any:
    made = program("MARS/MARS/optimizers/mars.py").MARS
    return made(ps, row.learning_rate, weight_decay=decay, optimize_1d=True, **betas(row.rule, (0.95, 0.99)))


def adopt(ps: list, row: Row, decay: float) -> Any:
    given = only(betas(row.rule, (0.9, 0.9999)), "clip")
    given |= {} if row.rule.get("clip", True) else {"clip_lambda": None}
    return program("adopt/src/adopt/adopt.py").ADOPT(ps, row.learning_rate, weight_decay=decay, **given)


def adan(ps: list, row: Row, decay: float) -> Any:
    given = betas(row.rule, (0.98, 0.92, 0.99))
    return program("Adan/adan.py").Adan(ps, row.learning_rate, weight_decay=decay, no_prox=True, foreach=False, **given)


def adabound(ps: list, row: Row, decay: float) -> Any:
    assert row.rule["base_lr"] == row.learning_rate
    made = program("AdaBound/adabound/adabound.py").AdaBound
    return made(ps, row.learning_rate, weight_decay=decay, **only(betas(row.rule), "base_lr"))


def qhadam(ps: list, row: Row, decay: float) -> Any:
    sys.path.insert(0, str(CHECKOUTS / "qhoptim"))
    from qhoptim.pyt import QHAdam

    nus = row.rule.get("nu1", 0.7), row.rule.get("nu2", 1.0)
    given = only(betas(row.rule, (0.995, 0.999)), "nu1", "nu2")
    decoupled = row.engine.get("decay_mode") != "l2"
    return QHAdam(ps, row.learning_rate, nus=nus, weight_decay=decay, decouple_weight_decay=decoupled, **given)


def tiger(ps: list, row: Row, decay: float) -> Any:
    tensorflow()
    opt = program("tiger/tiger.py").Tiger(learning_rate=1.0, weight_decay=decay)
    variables = [Variable(f"bias{i}", p.detach().numpy().copy()) for i, p in enumerate(ps)]
    opt._create_slots(variables)
    group = {}

    def step() -> None:
        opt.learning_rate = 2 * group["lr"]
        opt._prepare(variables)
        for p, var in zip(ps, variables, strict=True):
            opt._resource_apply_dense(p.grad.numpy(), var)
            p.data = torch.tensor(var.value)
        opt.iterations += 1

    return SimpleNamespace(step=step, param_groups=[group])


def laprop(ps: list, row: Row, decay: float) -> Any:
    return program("LaProp-Optimizer/laprop.py").LaProp(ps, row.learning_rate, weight_decay=decay, **betas(row.rule))


def kate(ps: list, row: Row, decay: float) -> Any:
    sys.path.insert(0, str(CHECKOUTS / "KATE"))
    from codes.optimizers import KATE

    given = {"eps": row.rule.get("eps", 1e-8), "eta_": row.rule.get("eta", 0.0)}
    return KATE(ps, SimpleNamespace(lr=row.learning_rate, weight_decay=decay, **given), "cpu")


def novograd(ps: list, row: Row, decay: float) -> Any:
    return program(NOVOGRAD).Novograd(ps, row.learning_rate, weight_decay=decay, **betas(row.rule, (0.95, 0.98)))


def ademamix(ps: list, row: Row, decay: float) -> Any:
    given = {"alpha": 5.0, **betas(row.rule, (0.9, 0.999, 0.9999))}
    return program("ml-ademamix/pytorch/ademamix.py").AdEMAMix(ps, row.learning_rate, weight_decay=decay, **given)


MAKERS: dict[str, Callable[[list, Row, float], Any]] = {
    make.__name__: make
    for make in (
        madgrad, acprop, sophia, adahessian, mars, adopt, adan, adabound, qhadam, tiger, laprop, kate, adabelief,
        novograd, ademamix,
    )
}  # fmt: skip


def trajectory(row: Row, kind: str, scale: float) -> np.ndarray:
    """The saved parameters of one case, shape (saved steps, entries)."""
    start = inputs.parameters(row.leaves)
    ps = {k: torch.tensor(p, requires_grad=True) for k, p in start.items()}
    opt = MAKERS[row.constructor](list(ps.values()), row, row.engine.get("weight_decay", 0.0))
    rates, history = inputs.learning_rates(kind, row.learning_rate), []
    for grads, rate in zip(inputs.gradients(scale, row.leaves), rates, strict=True):
        opt.param_groups[0]["lr"] = rate
        for k, p in ps.items():
            p.grad = torch.tensor(grads[k])
        opt.step()
        history.append({k: p.detach().numpy().copy() for k, p in ps.items()})
    return inputs.saved(history)


def main(checkouts: str) -> None:
    """Write the file next to this script."""
    global CHECKOUTS
    CHECKOUTS = Path(checkouts)
    torch.set_default_dtype(torch.float64)
    table = {
        row.name: np.array([[trajectory(row, kind, scale) for scale in inputs.SCALES] for kind in row.kinds])
        for row in AUTHORS
    }
    np.savez_compressed(Path(__file__).with_name("authors.npz"), **table)


if __name__ == "__main__":
    main(sys.argv[1])
