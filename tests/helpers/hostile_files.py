"""Makes checkpoints that try to run code, lie or reach out; one that succeeds leaves the file `owned`."""

import collections
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import torch


class Calls:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Raw:
    """Pickles as a global by name, called with ``arguments`` and then given ``state``."""

    def __init__(self, name, *arguments, state=None):
        self.name, self.arguments, self.state = name, arguments, state


class _Pickler(pickle._Pickler):
    """Python's own pickler, which lets a global be named that is not there, and nothing be checked."""

    def save(self, item, save_persistent_id=True):
        if not isinstance(item, Raw):
            return super().save(item, save_persistent_id)
        module, _, name = item.name.rpartition(".")
        self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        if item.arguments or item.state is not None:
            super().save(tuple(item.arguments))
            self.write(pickle.REDUCE)
        if item.state is not None:
            super().save(item.state)
            self.write(pickle.BUILD)


def raw_pickle(content):
    stream = io.BytesIO()
    _Pickler(stream, 2).dump(content)
    return stream.getvalue()


def archive(file, content, records=()):
    """An archive as torch.save writes it, around any pickle."""
    data = content if isinstance(content, bytes) else raw_pickle(content)
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("archive/data.pkl", data)
        out.writestr("archive/byteorder", "little")
        for name, value in records:
            out.writestr(name, value)
        out.writestr("archive/version", "3\n")


def rewritten(file, edit, **how):
    """A sound checkpoint with its records changed by ``edit(name, data)``."""
    sound = io.BytesIO()
    torch.save({"state_dict": {"w": torch.arange(1000.0), "v": torch.ones(1000)}}, sound)
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(file, "w", **how) as new:
        for record in old.infolist():
            name, data = edit(record.filename, old.read(record.filename))
            new.writestr(name, data)


def _shell():
    return f"touch {Path('owned').resolve()}"


def _wrapped(item):
    return {"state_dict": {"w": torch.zeros(2)}, "meta": item}


def _object_array(file):
    array = np.empty(1, object)
    array[0] = Calls(os.system, _shell())
    torch.save(_wrapped(array), file)


def _object_array_of_plain_things(file):
    torch.save(_wrapped(np.array([{"a": 1}], object)), file)


def _nested(file):
    item = Calls(os.system, _shell())
    for _ in range(30):
        item = collections.OrderedDict(a=[(item,)])
    torch.save({"state_dict": item, "optimizer": {"state": {0: {"step": item}}}}, file)


def _poisoned_history(file):
    buffer = Raw(
        "mmengine.logging.history_buffer.HistoryBuffer",
        state={
            "statistics_methods": {"mean": Raw("os.system")},
            "_log_history": [],
            "_count_history": [],
            "max_length": 1,
        },
    )
    archive(file, {"state_dict": {}, "message_hub": buffer})


def _getattr_chain(file):
    get = "builtins.getattr"
    history = Raw("mmengine.logging.history_buffer.HistoryBuffer")
    function = Raw(get, Raw(get, history, "mean"), "__globals__")
    archive(file, {"state_dict": {}, "meta": function})


def _wide_getattr(file):
    archive(file, {"state_dict": {}, "meta": Raw("builtins.getattr", Raw("torch.Tensor"), "register_hook")})


def _dtype_with_fields(file):
    dtype = Raw("numpy.dtype", "f8", state=(3, "<", None, ("a",), {"a": ("O", 0)}, 8, 8, 63))
    archive(file, {"state_dict": {}, "meta": dtype})


def _huge_array(file):
    kind = Raw("numpy.ndarray")
    archive(
        file,
        {"state_dict": {}, "meta": Raw("numpy._core.multiarray._reconstruct", kind, (1 << 40,), b"b")},
    )


def _scalar_of_an_object(file):
    scalar = Raw("numpy._core.multiarray.scalar", Raw("numpy.dtype", "O8"), b"12345678")
    archive(file, {"state_dict": {}, "meta": scalar})


def _legacy(file):
    torch.save(_wrapped(Calls(os.system, _shell())), file, _use_new_zipfile_serialization=False)


def _plain_pickle(file):
    file.write_bytes(pickle.dumps(_wrapped(Calls(os.system, _shell()))))


def _tar(file):
    inner = file.with_name("pickle")
    inner.write_bytes(pickle.dumps(Calls(os.system, _shell())))
    with tarfile.open(file, "w") as out:
        out.add(inner, "pickle")
        out.add(inner, "../owned")


def _truncated(file):
    rewritten(file, lambda name, data: (name, data))
    file.write_bytes(file.read_bytes()[:-700])


def _packed(file):
    rewritten(file, lambda name, data: (name, data), compression=zipfile.ZIP_DEFLATED)


def _short_record(file):
    rewritten(file, lambda name, data: (name, data[:100] if name.endswith("data/0") else data))


def _claimed_tensor(file):
    claim = struct.pack("<H", 1000), struct.pack("<H", 60000)
    rewritten(file, lambda name, data: (name, data.replace(*claim) if name.endswith(".pkl") else data))


def _lying_archive(file):
    rewritten(file, lambda name, data: (name, data))
    data = bytearray(file.read_bytes())
    at = data.find(b"PK\x01\x02")  # the central directory's first record
    data[at + 20 : at + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    file.write_bytes(data)


def _twice(file):
    rewritten(file, lambda name, data: (name.replace("data/1", "data/0"), data))


def _path(name):
    return lambda file: archive(file, {"state_dict": {}}, [(name, b"x")])


def _safetensors(header, size=None):
    def make(file):
        text = json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + b"\0" * 16)

    return make


def _index(names):
    return lambda file: file.write_text(json.dumps({"weight_map": names}))


_HEADER = {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
# name -> (suffix, maker)
CORPUS = {
    "os.system": (".pth", lambda file: torch.save(_wrapped(Calls(os.system, _shell())), file)),
    "eval": (".pth", lambda file: torch.save(_wrapped(Calls(eval, "open('owned', 'w')")), file)),
    "nested reducers": (".pth", _nested),
    "a getattr chain": (".pth", _getattr_chain),
    "getattr of torch": (".pth", _wide_getattr),
    "poisoned statistics": (".pth", _poisoned_history),
    "an object array that calls": (".pth", _object_array),
    "an object array": (".pth", _object_array_of_plain_things),
    "a dtype with fields": (".pth", _dtype_with_fields),
    "a huge array": (".pth", _huge_array),
    "a scalar that is a pointer": (".pth", _scalar_of_an_object),
    "a hook by name": (".pth", lambda file: archive(file, {"x": Raw("runpy.run_path", "x.py")})),
    "a class by name": (
        ".pth",
        lambda file: archive(file, {"x": Raw("subprocess.Popen", ["touch", "owned"])}),
    ),
    "legacy format": (".pth", _legacy),
    "plain pickle": (".pkl", _plain_pickle),
    "legacy tar": (".tar", _tar),
    "truncated zip": (".pth", _truncated),
    "packed zip": (".pth", _packed),
    "short record": (".pth", _short_record),
    "claimed tensor": (".pth", _claimed_tensor),
    "lying archive": (".pth", _lying_archive),
    "one name twice": (".pth", _twice),
    "path up": (".pth", _path("archive/../../owned")),
    "path from the root": (".pth", _path("/owned")),
    "path of another system": (".pth", _path("archive\\..\\owned")),
    "broken pickle": (".pth", lambda file: archive(file, b"\x80\x02}q\x00(X")),
    "no pickle": (".pth", lambda file: file.write_bytes(b"PK\x05\x06" + b"\0" * 18)),
    "empty": (".pth", lambda file: file.write_bytes(b"")),
    "a list": (".pth", lambda file: torch.save([1, 2], file)),
    "safetensors: long header": (".safetensors", _safetensors(_HEADER, 1 << 40)),
    "safetensors: wrong offsets": (
        ".safetensors",
        _safetensors({"w": {**_HEADER["w"], "data_offsets": [0, 4096]}}),
    ),
    "safetensors: wrong shape": (".safetensors", _safetensors({"w": {**_HEADER["w"], "shape": [1 << 40]}})),
    "safetensors: overlap": (".safetensors", _safetensors({"w": _HEADER["w"], "v": _HEADER["w"]})),
    "index that reaches out": (".safetensors.index.json", _index({"w": "../../etc/passwd"})),
    "index of nothing": (".safetensors.index.json", _index({"w": "gone.safetensors"})),
    "index of an array": (".safetensors.index.json", lambda file: file.write_text("[1]")),
}
