"""What the record of a run must hold, so that whoever reads one from disk can rely on it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Run(_Part):
    method: str
    rank: Annotated[int, Field(ge=1)]
    scaling: float
    learning_rate: float
    seed: Annotated[int, Field(ge=0)]


class _Metric(_Part):
    step: Annotated[int, Field(ge=0)]
    valid_loss: Annotated[float | None, Field(alias="valid loss")]
    train_time: Annotated[float | None, Field(alias="train time")]
    method_time: Annotated[float | None, Field(alias="method time")]
    gap: float | None
    kappa_bound: Annotated[float | None, Field(alias="kappa bound")]


class _RunInfo(_Part):
    error_msg: str


class _Ended(_Part):
    status: Literal["diverged", "failed"]
    metrics: list[_Metric]


class _Succeeded(_Part):
    status: Literal["success"]
    metrics: Annotated[list[_Metric], Field(min_length=1)]
    train_time: float
    steps: Annotated[int, Field(ge=1)]
    test_loss: float


class _Record(_Part):
    run: _Run
    run_info: _RunInfo
    train_info: Annotated[_Ended | _Succeeded, Field(discriminator="status")]


def record_problem(value: Any) -> str | None:
    """What keeps JSON data from being the record of a run.

    Args:
        value: as read, infinities and NaN restored.

    Returns:
        The first field that is wrong and why; None if all is well.
    """
    try:
        _Record.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"] if part not in ("success", "diverged", "failed"))
        return f"{field or 'the whole'}: {first['msg']}"
    return None
