"""Templates for swift, loaded by its `--external_plugins`: what stands around the prompts that `helpers.templating` renders."""

import os
import threading
import time

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from swift.template import Template, TemplateMeta, register_template

from helpers.templating import tokenize


class NewsTemplate(Template):
    """Tokenises as `helpers.templating` does, so that an article that says <eos> stays text in training, too."""

    def _tokenize(self, context, **kwargs):
        return tokenize(self.tokenizer, [context])["input_ids"][0]

    def compute_sft_loss(self, model, inputs, num_items_in_batch=None, trainer=None):
        network = trainer.accelerator.unwrap_model(model)
        flatten_rows(network.get_output_embeddings())
        leave_inputs(network, model.device.type)
        return super().compute_sft_loss(model, inputs, num_items_in_batch=num_items_in_batch, trainer=trainer)


def flatten_rows(head) -> None:
    """Feed the output matrix with rows × features: the backward pass of a batch × rows × features input copies the whole matrix."""
    if "forward" not in vars(head):
        forward = head.forward
        head.forward = lambda hidden: forward(hidden.flatten(0, -2)).unflatten(0, hidden.shape[:-1])


def leave_inputs(network, device: str) -> None:
    """Spare adapters the cast of their inputs to four bytes where autocast casts them straight back: a tenth of a step on a CPU."""
    for module in network.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = not torch.is_autocast_enabled(device)


def watch(pid: int) -> None:
    """End this process when process `pid` has gone: nobody would read what it goes on to write."""
    while True:
        time.sleep(1)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            os._exit(1)


if parent := os.environ.get("CHINESE_NEWS_BOOK_PARENT"):
    threading.Thread(target=watch, args=(int(parent),), daemon=True).start()

# Bodies are cut before swift sees a row, so a prompt arrives whole; swift only frames it: [<bos>] prompt answer <eos>.
for name, prefix in (("news-bos", [["bos_token_id"]]), ("news", [])):
    meta = TemplateMeta(name, prefix=prefix, prompt=["{{QUERY}}"], chat_sep=None, suffix=[["eos_token_id"]], template_cls=NewsTemplate)
    register_template(meta, exist_ok=True)
