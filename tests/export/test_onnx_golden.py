import numpy as np
import pytest
from export_models import ocec_onnx, run_config

from jaxrecipes.convert import from_torch
from jaxrecipes.recipes.ocec.network import OcecConfig

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

MODELS = [
    f"model__{arch}__{head}"
    for arch in ("baseline", "inverted_se", "convnext")
    for head in ("avg", "avgmax_mlp", "transformer", "mlp_mixer")
] + [
    "model_special__baseline_avgmax_mlp_dropout0",
    "model_special__baseline_one_block_odd_size",
    "model_special__baseline_seven_blocks",
    "model_special__convnext_transformer_odd_downsample",
    "model_special__inverted_se_expansion1_no_se",
    "model_special__inverted_se_expansion2_reduction3",
]


@pytest.mark.parametrize("name", MODELS)
def test_exported_file_gives_the_probabilities_of_the_pytorch_original(golden, name):
    arrays = golden(f"ocec/{name}")
    fields = golden.json(arrays["config_json"])
    image_size = tuple(fields.pop("image_size"))
    fields = {k: v for k, v in fields.items() if k not in ("resolved_head", "feature_channels")}
    state_dict = {k.removeprefix("sd/"): v for k, v in arrays.items() if k.startswith("sd/")}
    _, params, batch_stats = from_torch("ocec", state_dict, fields)
    config = OcecConfig.from_dict(fields)
    model = ocec_onnx(run_config(config, image_size), (params, batch_stats))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (prob_open,) = session.run(None, {"images": arrays["x"]})
    np.testing.assert_allclose(prob_open, arrays["eval/prob_open"], rtol=0, atol=5e-6)
