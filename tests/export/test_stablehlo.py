import numpy as np
import pytest
from export_models import (
    IMAGE_SIZE,
    predict,
    random_images,
    random_weights,
    run_config,
    tiny_config,
)
from jax import export

from jaxrecipes.export.stablehlo import load_stablehlo, save_stablehlo


@pytest.mark.parametrize(("arch", "head"), [("inverted_se", "avg"), ("convnext", "transformer")])
def test_a_reloaded_file_computes_the_same_for_any_batch(tmp_path, arch, head):
    config = tiny_config(arch, head, num_blocks=1)
    network = predict(run_config(config, mean=(0.5, 0.4, 0.3)), random_weights(config))
    path = tmp_path / "model.stablehlo"
    assert save_stablehlo(network, path, example=(3, *IMAGE_SIZE)) == path.stat().st_size
    loaded = load_stablehlo(path)
    images = random_images(3)
    expected = network(images)
    np.testing.assert_allclose(loaded(images), expected, rtol=0, atol=1e-7)
    np.testing.assert_allclose(loaded(images[:1]), expected[:1], rtol=0, atol=1e-6)


def test_each_platform_keeps_its_own_formulation(tmp_path):
    config = tiny_config(num_blocks=1)
    network = predict(run_config(config), random_weights(config))
    modules = {}
    for platforms in (("cpu",), ("cuda",), ("cpu", "cuda", "tpu")):
        path = tmp_path / "model.stablehlo"
        save_stablehlo(network, path, example=(3, *IMAGE_SIZE), platforms=platforms)
        modules[platforms] = export.deserialize(bytearray(path.read_bytes())).mlir_module()
    assert "stablehlo.convolution" not in modules["cpu",]
    assert "stablehlo.convolution" in modules["cuda",]
    assert "stablehlo.case" in modules["cpu", "cuda", "tpu"]


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "model.stablehlo"
    path.write_bytes(b"not a program")
    with pytest.raises(ValueError, match="is not a StableHLO file"):
        load_stablehlo(path)
