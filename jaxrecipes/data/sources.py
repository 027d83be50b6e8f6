"""A data set that fits lives on the device as uint8 and is gathered inside the step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DeviceSource:
    """Images and labels on the device(s): a pytree, to be passed to the jitted step.

    Pass it as an argument. Captured by a closure it would become a constant of the program.

    Attributes:
      images: `[N, H, W, 3]` uint8.
      labels: `[N]` int32.
    """

    images: Array
    labels: Array

    @classmethod
    def create(
        cls,
        images: np.ndarray,
        labels: np.ndarray,
        sharding: jax.sharding.Sharding | None = None,
    ) -> "DeviceSource":
        """Copies host arrays to the device(s).

        Args:
          images: `[N, H, W, 3]` uint8, the same on every process.
          labels: `[N]` integers.
          sharding: where they go; with several devices usually replicated over the mesh. None:
            the default device.

        Raises:
          ValueError: no image, images that are not uint8, or another number of labels.
        """
        labels = np.asarray(labels, np.int32)
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
            raise ValueError(
                f"want uint8 images [N, H, W, 3], N > 0; got {images.dtype} {images.shape}"
            )
        if labels.shape != (len(images),):
            raise ValueError(f"{len(images)} images need labels [{len(images)}]: {labels.shape}")

        def put(array: np.ndarray) -> Array:
            if sharding is None or sharding.is_fully_addressable:
                return jax.device_put(array, sharding)
            return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

        return cls(images=put(images), labels=put(labels))

    def __len__(self) -> int:
        return self.images.shape[0]

    def gather(self, indices: Array) -> dict[str, Array]:
        """`indices` `[B]` int32 -> `image` `[B, H, W, 3]` uint8 and `label` `[B]` int32.

        Indices outside the data are clamped to it (inside `jit` nothing can raise).
        """
        return {
            "image": jnp.take(self.images, indices, axis=0, mode="clip"),
            "label": jnp.take(self.labels, indices, axis=0, mode="clip"),
        }
