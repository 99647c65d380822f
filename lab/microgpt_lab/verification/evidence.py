"""What the findings say by themselves, if no known mistake gives the numbers: which rule the
first wrong tensor belongs to, and what is peculiar about the difference."""

import math
from collections.abc import Sequence

import numpy as np

from microgpt_lab.verification import checks
from microgpt_lab.verification.programs import Answered

# The name of a value or weight, without its layer -> the rules of the operation that computes it.
VALUES = {
    "embedding": ("S4.1", "the sum of the token's and the position's embedding"),
    "embedding_norm": ("S5.1", "RMSNorm of the embeddings, S4.2"),
    "attn_norm": ("S5.1", "RMSNorm before attention, S6.1"),
    "q": ("S6.1", "the query"),
    "k": ("S6.1", "the key"),
    "v": ("S6.1", "the value"),
    "scores": ("S6.3", "the scores of each head, S6.2"),
    "attention": ("S6.5", "the softmax of the scores, S6.4"),
    "heads": ("S6.6", "the weighted sum of the values in each head"),
    "attn_out": ("S6.7", "the product with attn_wo"),
    "attn_residual": ("S6.7", "attention's output added to the residual stream"),
    "mlp_norm": ("S5.1", "RMSNorm before the MLP, S7.1"),
    "pre_activation": ("S7.1", "the product with mlp_fc1"),
    "activation": ("S7.2", "ReLU to the power relu_power"),
    "mlp_out": ("S7.4", "the product with mlp_fc2"),
    "mlp_residual": ("S7.4", "the MLP's output added to the residual stream"),
    "logits": ("S4.4", "the product with lm_head"),
    "loss": ("S8.1", "the cross-entropy, and the mean over all targets, S8.2"),
}
# Backward: a gradient is computed by the operation that uses the value.
GRADIENTS = {
    "logits": ("S8.3", "probabilities minus the one-hot target, over the number of targets"),
    "mlp_residual": ("S4.4", "back through lm_head"),
    "mlp_out": ("S7.4", "back through the residual addition"),
    "activation": ("S7.4", "back through mlp_fc2"),
    "pre_activation": ("S7.3", "the derivative of the activation"),
    "mlp_norm": ("S7.1", "back through mlp_fc1"),
    "attn_residual": ("S5.2", "back through RMSNorm, and past the MLP"),
    "attn_out": ("S6.7", "back through the residual addition"),
    "heads": ("S6.7", "back through attn_wo"),
    "v": ("S6.6", "back through the weighted sum: later positions use a value too"),
    "attention": ("S6.6", "back through the weighted sum"),
    "scores": ("S6.5", "back through the softmax"),
    "k": ("S6.3", "back through the scores: later positions use a key too"),
    "q": ("S6.3", "back through the scores"),
    "attn_norm": ("S6.1", "back through attn_wq, attn_wk and attn_wv"),
    "embedding_norm": ("S5.2", "back through RMSNorm, and past attention"),
    "embedding": ("S5.2", "back through RMSNorm"),
    "lm_head": ("S8.3", "probabilities minus the one-hot target, over the number of targets"),
    "mlp_fc2": ("S7.4", "back through the last layers of the MLP"),
    "mlp_fc1": ("S7.3", "the derivative of the activation"),
    "attn_wo": ("S5.2", "back through RMSNorm before the MLP, and past the MLP"),
    "attn_wv": ("S6.6", "back through the weighted sum of the values"),
    "attn_wk": ("S6.3", "back through the scores and their softmax, S6.5"),
    "attn_wq": ("S6.3", "back through the scores and their softmax, S6.5"),
    "wpe": ("S5.2", "back through RMSNorm, and past attention"),
    "wte": ("S8.3", "a letter that occurs twice has the sum of both gradients"),
}
# The first words of a finding's tensor.
OTHERS = {
    "shuffle": ("S1.3", "the shuffle"),
    "letters": ("S2.1", "the letters in the order of their code points"),
    "initial": ("S3.2", "the order of drawing, the deviations S3.3, the pairs of gauss S3.4"),
    "uniforms": ("S1.2", "the order in which the random stream is used"),
    "names": ("S11.3", "drawing a token, S11.2 to S11.5"),
    "first_moment": ("S9.1", "the first moment"),
    "second_moment": ("S9.2", "the second moment"),
    "weights": ("S9.4", "the step of Adam, and its bias correction S9.3"),
}


def rule_of(tensor: str, check: str) -> tuple[str, str]:
    """The rule of a tensor in a finding, and what computes it; ("", "") if it is unknown."""
    short = tensor.split(".")[-1]
    if check in ("inner grads", "grads"):
        return GRADIENTS.get(short, ("", ""))
    if tensor.startswith("loss of step"):
        return OTHERS["weights"] if tensor != "loss of step 1" else VALUES["loss"]
    words = tensor.split()
    return VALUES.get(short) or OTHERS.get(words[0] if words else "", ("", ""))


def rules_of(tensor: str) -> tuple[str, ...]:
    """The rules that a wrong tensor points to, forward and backward."""
    found = [rule_of(tensor, check) for check in ("inner", "grads")]
    return tuple({rule for rule, _ in found if rule})


def known_facts(failed: Sequence[Answered]) -> list[str]:
    """What the findings of the first failed reply say: the rule of the first difference."""
    reply = failed[0]
    findings = [f for f in reply.findings if not f.passed]
    if any(f.check in ("answer", "error") for f in findings):
        return ["the answer does not have the numbers that were asked for: see above"]
    lines = []
    first = findings[0]
    rule, what = rule_of(first.tensor, first.check)
    if rule:
        lines.append(f"the first difference is in {first.tensor}: {what} (rule {rule})")
    lines += peculiarities(reply, {f.check for f in findings})
    if not lines:
        lines.append(f"the first difference is in {first.tensor or first.check}: see above")
    if any(f.worst == math.inf for f in findings):
        lines.append("some numbers are missing, or of another shape, or not finite: see above")
    return lines


def peculiarities(reply: Answered, wrong: set[str]) -> list[str]:
    """What stays right, and what the wrong numbers have in common."""
    lines = []
    if not wrong & {"inner", "logits", "loss"} and wrong & {"grads", "inner grads"}:
        off = wrong_gradients(reply)
        if off:
            lines.append(f"the loss is right, the gradients of {', '.join(off)} are wrong (S8.3)")
    elif wrong == {"loss"} or ("loss" in wrong and not wrong & {"inner", "logits"}):
        lines.append("the logits are right, the loss is wrong (S8)")
    elif wrong and wrong <= {"losses", "moments", "long run"}:
        lines.append("loss and gradients are right, the steps are wrong: the optimizer (S9, S10)")
    elif wrong == {"names"}:
        lines.append("the forward pass is right, sampling is wrong (S11)")
    ratio = common_ratio(reply)
    if ratio:
        lines.append(f"every gradient is the right one times {ratio:.6g}")
    return lines


def wrong_gradients(reply: Answered) -> list[str]:
    """The names of the weights whose gradient is wrong."""
    tolerance = checks.TOLERANCES[reply.dtype]["grads"]
    try:
        pairs = list(checks.pairs(reply.case, reply.answer, "grads"))
        return [name for name, g, w in pairs if not checks.difference(g, w)[0] <= tolerance]
    except (KeyError, TypeError, AttributeError, ValueError):
        return []


def common_ratio(reply: Answered) -> float | None:
    """The one factor between all gradients of an answer and the right ones; None without."""
    try:
        pairs = list(checks.pairs(reply.case, reply.answer, "grads"))
        got = np.concatenate([checks.flat(g) for _, g, _ in pairs])
        want = np.concatenate([checks.flat(w) for _, _, w in pairs])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if got.shape != want.shape or not np.isfinite(got).all() or not want.any():
        return None
    ratio = float(got @ want / (want @ want))
    close = float(np.linalg.norm(got - ratio * want)) <= 1e-6 * float(np.linalg.norm(got))
    return ratio if close and abs(ratio - 1) > 1e-6 else None
