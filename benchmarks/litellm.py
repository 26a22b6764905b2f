"""LiteLLM's proxy as a peer: installed for one run, since its requirements are not ours."""

import subprocess
import sys

from benchmarks.servers import Command, Kind, Place

__all__ = ["LITELLM"]


def _command(place: Place) -> Command:
    """One worker, no keys, no database, no callbacks, no log."""
    environment = place.folder.parent / "litellm-environment"
    if not environment.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        install = [str(environment / "bin" / "pip"), "install", "--quiet", "litellm[proxy]"]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    config = place.folder / "litellm.yaml"
    config.write_text(
        f"""
model_list:
  - model_name: gpt-4o-mini
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{place.model_url}", api_key: k}}
litellm_settings: {{telemetry: false}}
"""
    )
    arguments = ["--host", "127.0.0.1", "--port", str(place.port), "--config", str(config)]
    return [str(environment / "bin" / "litellm"), *arguments, "--num_workers", "1"], {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # on the loopback, for a run
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "REPEATED_STREAMING_CHUNK_LIMIT": "1000000",  # our model repeats itself
    }


LITELLM = Kind(
    _command,
    lambda: "",
    "LiteLLM's proxy: one worker, no keys, no database, no callbacks",
    path="/v1/chat/completions",
)
