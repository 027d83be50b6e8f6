import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.data.augment.mix import MixOps, cutmix_weights, mix, mix_images

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).random((6, 5, 8, 3), np.float32)
LABELS = np.array([0, 1, 1, 0, 0, 1], np.int32)
BOTH = MixOps(mixup=True, cutmix=True)

run_mix = jax.jit(mix, static_argnames="ops")
run_cutmix_weights = jax.jit(cutmix_weights, static_argnums=(2, 3))


def hparams(mixup_prob=0.0, cutmix_prob=0.0, alpha=1.0):
    values = {
        "mixup_prob": mixup_prob,
        "mixup_alpha": alpha,
        "cutmix_prob": cutmix_prob,
        "cutmix_alpha": alpha,
    }
    return {name: jnp.float32(value) for name, value in values.items()}


def mixed_targets(labels, partners, lam):
    return lam * labels + (1 - lam) * partners


def test_mixup_matches_the_golden_arrays(golden):
    arrays = golden("torch_semantics/augment")
    images, labels = arrays["x"].transpose(0, 2, 3, 1), arrays["y"]
    for i in range(5):
        lam, partner = arrays[f"mixup/{i}/lam"], arrays[f"mixup/{i}/perm"]
        out = mix_images(images, images[partner], jnp.float32(lam))
        np.testing.assert_allclose(out, arrays[f"mixup/{i}/x"].transpose(0, 2, 3, 1), atol=3e-7)
        targets = mixed_targets(labels, labels[partner], lam)
        np.testing.assert_allclose(targets, arrays[f"mixup/{i}/y"], atol=1e-6)


def test_cutmix_matches_the_golden_arrays(golden):
    arrays = golden("torch_semantics/augment")
    images, labels = arrays["x"].transpose(0, 2, 3, 1), arrays["y"]
    for i in range(5):
        x, y = arrays[f"cutmix/{i}/centre_xy"]
        lam = jnp.float32(arrays[f"cutmix/{i}/lam_drawn"])
        kept, share = run_cutmix_weights(lam, jnp.array([y, x]), *images.shape[1:3])
        partner = arrays[f"cutmix/{i}/perm"]
        out = mix_images(images, images[partner], kept)
        np.testing.assert_array_equal(out, arrays[f"cutmix/{i}/x"].transpose(0, 2, 3, 1))
        assert share == pytest.approx(float(arrays[f"cutmix/{i}/lam_adjusted"]), abs=1e-6)
        targets = mixed_targets(labels, labels[partner], float(share))
        np.testing.assert_allclose(targets, arrays[f"cutmix/{i}/y"], atol=1e-6)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_the_partner_is_the_image_before_as_in_torchvision(golden, kind):
    arrays = golden("torch_semantics/augment")
    images = arrays["x"].transpose(0, 2, 3, 1)
    partners = np.roll(images, 1, axis=0)
    out = arrays[f"tv_{kind}/x"].transpose(0, 2, 3, 1)
    lam = arrays[f"tv_{kind}/y_two_class"][2, 1]
    if kind == "mixup":
        weights = jnp.float32(lam)
    else:
        weights = jnp.asarray((out == images).all(axis=(0, 3)), jnp.float32)
        assert weights.mean() == pytest.approx(lam, abs=1e-6)
    np.testing.assert_allclose(mix_images(images, partners, weights), out, atol=3e-7)


def test_probability_zero_leaves_the_batch_alone():
    images, fields = run_mix(KEY, IMAGES, LABELS, hparams(), ops=BOTH)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(fields["mix_lambda"], np.ones(6))


def test_without_operations_there_are_no_fields():
    images, fields = mix(KEY, IMAGES, LABELS, {}, ops=MixOps())
    assert images is IMAGES
    assert fields == {}


def test_mixup_weighs_the_images_as_it_weighs_the_labels():
    images, fields = run_mix(KEY, IMAGES, LABELS, hparams(mixup_prob=1.0), ops=BOTH)
    lam = float(fields["mix_lambda"][0])
    assert 0 < lam < 1
    wanted = lam * IMAGES + (1 - lam) * np.roll(IMAGES, 1, axis=0)
    np.testing.assert_allclose(images, wanted, atol=1e-6)
    np.testing.assert_array_equal(fields["label_mixed"], np.roll(LABELS, 1))


def test_cutmix_takes_each_pixel_from_one_of_the_pair():
    for seed in range(5):
        key = jax.random.key(seed)
        images, fields = run_mix(key, IMAGES, LABELS, hparams(cutmix_prob=1.0), ops=BOTH)
        own = (np.asarray(images) == IMAGES).all(axis=-1)
        other = (np.asarray(images) == np.roll(IMAGES, 1, axis=0)).all(axis=-1)
        assert (own | other).all()
        np.testing.assert_allclose(own.mean(axis=(1, 2)), fields["mix_lambda"], atol=1e-6)


def test_each_kind_has_its_own_share_of_the_batches():
    settings = hparams(mixup_prob=0.3, cutmix_prob=0.2, alpha=1.0)
    kinds = []
    for key in jax.random.split(KEY, 400):
        images = np.asarray(run_mix(key, IMAGES, LABELS, settings, ops=BOTH)[0])
        own = (images == IMAGES).all(axis=-1)
        other = (images == np.roll(IMAGES, 1, axis=0)).all(axis=-1)
        kinds.append("none" if own.all() else "cutmix" if (own | other).all() else "mixup")
    assert kinds.count("mixup") / 400 == pytest.approx(0.3, abs=0.07)
    assert kinds.count("cutmix") / 400 == pytest.approx(0.2, abs=0.07)


def test_alpha_is_data():
    keys = jax.random.split(KEY, 150)
    for alpha in (0.2, 1.0, 50.0):
        settings = hparams(mixup_prob=1.0, alpha=alpha)
        draws = [run_mix(key, IMAGES, LABELS, settings, ops=BOTH)[1]["mix_lambda"] for key in keys]
        spread = np.sqrt(1 / (4 * (2 * alpha + 1)))
        assert np.std(draws) == pytest.approx(spread, rel=0.2)


def test_vmap_over_hyperparameters_equals_separate_runs():
    stacked = hparams(mixup_prob=1.0) | {"mixup_alpha": jnp.array([0.2, 5.0])}
    axes = {name: 0 if name == "mixup_alpha" else None for name in stacked}
    ops = MixOps(mixup=True)
    run = jax.vmap(lambda settings: mix(KEY, IMAGES, LABELS, settings, ops=ops), (axes,))
    together, _ = jax.jit(run)(stacked)
    for index, alpha in enumerate((0.2, 5.0)):
        settings = hparams(mixup_prob=1.0, alpha=alpha)
        alone, _ = run_mix(KEY, IMAGES, LABELS, settings, ops=BOTH)
        np.testing.assert_allclose(together[index], alone, atol=1e-6)


def test_a_missing_hyperparameter_is_named():
    with pytest.raises(ValueError, match="cutmix_alpha"):
        mix(KEY, IMAGES, LABELS, {"cutmix_prob": 0.5}, ops=MixOps(cutmix=True))
