"""The detector's settings, however it is run: predict.py and predict_with_ray.py add their own to these."""

from pathlib import Path

from pydantic import Field, field_validator

from detector.script_settings import ScriptSettings


class UnusableSetting(Exception):
    """What a setting names turned out to be unusable once it was used; the message names the setting and the remedy."""


class ModelFolders(ScriptSettings):
    """The two models; self_check.py says more of a folder than that it is not there."""

    llm_dir: Path = Field(description="guard model folder with scoring.json (quantize_model.py writes one)")
    caption_model_dir: Path | None = Field(
        None, description="BLIP captioning model folder, safetensors; unset: pictures are judged by their text alone"
    )


class DetectorSettings(ModelFolders):
    """Everything that Reader and Scorer go by."""

    dtype: str = Field(
        "auto",
        pattern="^(auto|float32|bfloat16|float16)$",
        description="precision: auto, float32, bfloat16 or float16; auto: 16-bit where the device multiplies in it",
    )
    gptq_backend: str = Field(
        "auto",
        pattern="^(auto|torch|triton|exllama_v2|marlin|machete)$",
        description="kernel of a GPTQ model: auto and torch compile nothing; auto dequantises once on a CPU with the "
        "memory; triton needs a C compiler at run time, exllama_v2, marlin and machete need nvcc",
    )
    batch_size: int = Field(32, ge=1, le=1024, description="images captioned and scored together")
    threshold: float | None = Field(None, ge=0, le=1, description="label 1 from here on; scoring.json's when unset")
    fallback_probability: float = Field(0.5, ge=0, le=1, description="given to an image that cannot be scored")
    tessdata_prefix: Path | None = Field(
        None, description="folder of tam.traineddata; when unset the usual folders (apt install tesseract-ocr-tam)"
    )
    max_megapixels: int = Field(120, ge=1, le=2000, description="larger images fall back instead of being decoded")
    max_text_tokens: int | None = Field(
        None,
        ge=8,
        le=8192,
        description="longest view in tokens; a longer text is several windows, of which the most harmful counts; "
        "scoring.json's limit when unset",
    )
    tokens_a_row: int = Field(4096, ge=64, le=131_072, description="tokens scored in one packed row")
    max_caption_tokens: int = Field(20, ge=1, le=100, description="longest caption, tokens")

    @field_validator("llm_dir", "caption_model_dir")
    @classmethod
    def _is_a_folder(cls, folder: Path | None) -> Path | None:
        if folder and not folder.is_dir():
            raise ValueError("is no folder")
        return folder

    def for_another_process(self) -> "DetectorSettings":
        """These settings alone, without those of the script, and with paths that hold in any working directory."""
        shared = {name: getattr(self, name) for name in DetectorSettings.model_fields}
        paths = {name: value.resolve() for name, value in shared.items() if isinstance(value, Path)}
        return DetectorSettings.model_construct(**shared | paths)
