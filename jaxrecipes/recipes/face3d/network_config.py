"""Configuration of the face3d networks, with the original's flag names."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from jaxrecipes.fields import Checked, Count, Hparam, Layers, Share, hparam

ModelType = Literal["decoder_only", "encoder_decoder", "angle_warping", "decoder_only_clip"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Face3DConfig(Checked):
    """Architecture of a network that turns the embedding of a side view to the frontal one.

    Raises:
      ValueError: an unknown model type (names the nearest), sizes below 1, heads that do not divide
        the width, an option that the model type does not have.
    """

    model_type: ModelType = "decoder_only"
    """decoder_only; encoder_decoder; angle_warping; decoder_only_clip (pose attention sees the pose
    code)."""
    d_model: Count = 512
    """Width."""
    feat_dim: Count | None = None
    """Size of the embeddings; None: d_model, as in the original, where a wider model needs wider
    embeddings."""
    nhead: Count = 8
    """Attention heads; they matter for dropout alone, as every attention sees a single key.
    angle_warping always has 8."""
    num_layers: Layers = 4
    """Decoder layers of the two decoder-only models."""
    num_encoder_layers: Layers = 4
    """encoder_decoder: encoder layers."""
    num_decoder_layers: Layers = 4
    """encoder_decoder: decoder layers."""
    dim_feedforward: Count = 2048
    """Width of the feed-forward parts."""
    dropout: Hparam[Share] = hparam(0.1, name="dropout_rate", search=(0.0, 0.4), off_at_zero=True)
    """Rate of every dropout."""
    num_keypoints: Count = 5
    """Facial keypoints, for the keypoint decoder."""
    pose_dim: Count = 3
    """Numbers in a pose."""
    use_spatial_attention: bool = False
    """decoder_only: the keypoint decoder, with a gate between embedding and keypoints."""
    use_keypoints: bool = False
    """decoder_only: the keypoint decoder (the original's first revision) without that gate."""
    use_pose_attention: bool = False
    """Decoders: add a value made from the pose to the projected embedding."""
    use_angle_pe: bool = True
    """Decoders: add a linear map of the pose."""
    use_angle_conditioning: bool = True
    """Decoders: a layer norm whose scale and shift come from the pose."""
    use_pose_pe: bool = True
    """encoder_decoder: add codes of the pose's sines and cosines, and of the pose itself."""
    use_clip_pose_encoder: bool = True
    """decoder_only_clip: encode the pose as CLIP's features of a phrase that describes it; a new
    run takes them from pose_text_clip. False: by an MLP, the original's fallback."""
    pose_text_dim: Count = 512
    """use_clip_pose_encoder: numbers in these features; 512 for ViT-B."""
    hidden_dim: Count = 256
    """angle_warping: width of the refinement."""
    num_basis: Count = 32
    """angle_warping: number of basis vectors."""
    use_basis: bool = True
    """angle_warping: mix in a combination of learned vectors."""
    use_refinement: bool = True
    """angle_warping: the refining MLP."""
    use_attention_refine: bool = True
    """angle_warping: attention layers after the warp."""
    num_attention_layers: Layers = 1
    """angle_warping: how many of them."""

    def __post_init__(self):
        super().__post_init__()
        if self.d_model % self.heads:
            raise ValueError(
                f"{self.heads} attention heads do not divide d_model {self.d_model}; "
                + ("angle_warping always has 8" if self.model_type == "angle_warping" else "")
                + ("change nhead or d_model" if self.model_type != "angle_warping" else "")
            )
        if self.pose_dim != 3:
            raise ValueError(f"pose_dim is {self.pose_dim}; poses have 3 numbers")
        if self.keypoints and self.model_type != "decoder_only":
            raise ValueError(
                f"use_spatial_attention and use_keypoints belong to model_type 'decoder_only', "
                f"not to {self.model_type!r}; leave them off"
            )
        if self.keypoints and not (self.use_angle_pe and self.use_angle_conditioning):
            raise ValueError(
                "the keypoint decoder always has angle PE and angle conditioning; "
                "leave use_angle_pe and use_angle_conditioning on"
            )
        if self.model_type == "angle_warping" and self.feature_size != self.d_model:
            raise ValueError(
                f"angle_warping works at the size of the embeddings: feat_dim is {self.feat_dim}, "
                f"d_model {self.d_model}; give one of them"
            )

    @property
    def keypoints(self) -> bool:
        """Whether this is the keypoint decoder."""
        return self.use_keypoints or self.use_spatial_attention

    @property
    def encodes_text(self) -> bool:
        """Whether the pose is encoded as CLIP's features of a phrase."""
        return self.model_type == "decoder_only_clip" and self.use_clip_pose_encoder

    @property
    def feature_size(self) -> int:
        """Size of the embeddings."""
        return self.d_model if self.feat_dim is None else self.feat_dim

    @property
    def heads(self) -> int:
        """Attention heads in use."""
        return 8 if self.model_type == "angle_warping" else self.nhead

    @classmethod
    def from_original(cls, args: Mapping[str, Any]) -> "Face3DConfig":
        """From the original's arguments; those that do not describe the network are left out.

        The last revision ignored `num_layers`, and had `num_decoder_layers` in its place; files of
        the first have no such argument. It also ignored `use_spatial_attention`, so that the
        caller, who sees the weights, has to say whether it had an effect.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        fields = {name: args[name] for name in names if name in args}
        if fields.get("model_type", "decoder_only") != "encoder_decoder" and (
            "model_type" in args and "num_decoder_layers" in args
        ):
            fields["num_layers"] = args["num_decoder_layers"]
        if fields.get("model_type") == "angle_warping":
            fields["dropout"] = 0.1  # its rates are fixed there
        return cls(**fields)
