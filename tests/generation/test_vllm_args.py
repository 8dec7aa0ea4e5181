"""What vLLM is started with on machines that this one may not be."""

import pytest

from steper_serve.generation import vllm_args

pytestmark = pytest.mark.engine


@pytest.fixture(params=[True, False], ids=["bfloat16", "float32"])
def has_bfloat16(request, monkeypatch) -> bool:
    monkeypatch.setattr(vllm_args, "_cpu_has_bfloat16", lambda: request.param)
    return request.param


def test_a_cpu_serves_in_bfloat16_if_it_computes_in_it(has_bfloat16):
    own = vllm_args.own("model", None, None, enforce_eager=False)
    assert own.get("dtype") == (None if has_bfloat16 else "float32")
    assert vllm_args.merged(own, {}).dtype == ("auto" if has_bfloat16 else "float32")


def test_the_type_that_the_user_asks_for_wins(has_bfloat16):
    own = vllm_args.own("model", None, None, enforce_eager=False)
    assert vllm_args.merged(own, {"dtype": "bfloat16"}).dtype == "bfloat16"
