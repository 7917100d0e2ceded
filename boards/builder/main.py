"""PlatformIO's build script: compiles what build.json lists, and links it.

`intaglio build` brings build.json; without it, it is made here, from the option `custom_intaglio_libraries`.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

from SCons.Script import AlwaysBuild, Default, DefaultEnvironment

from intaglio.boards.board import load_board
from intaglio.host.bootsum import seal_boot_stage
from intaglio.host.build import plan_firmware
from intaglio.host.library import open_library
from intaglio.quantizer.errors import IntaglioError

env = DefaultEnvironment()


def planned() -> Path:
    """The path of build.json."""
    given = env.BoardConfig().get("intaglio.plan", None)
    if given is not None:
        return Path(given)
    folders = [Path(name) for name in env.GetProjectOption("custom_intaglio_libraries", "").split(os.pathsep) if name]
    try:
        libraries = [open_library(folder) for folder in folders]
        return plan_firmware(libraries, load_board(env["BOARD"]), Path(env.subst("$BUILD_DIR")))
    except IntaglioError as error:
        sys.exit(str(error))


plan = json.loads(planned().read_text(encoding="utf-8"))

env.Replace(
    CC=plan["cc"],
    AS=plan["cc"],
    LINK=plan["cc"],
    OBJCOPY=plan["objcopy"],
    PROGNAME="firmware",
    PROGSUFFIX=".elf",
    CCFLAGS=[],
    CFLAGS=[],
    CPPDEFINES=[],
    CPPPATH=[],
    LIBS=[],
    LINKFLAGS=[shlex.quote(flag) for flag in plan["link_flags"]],
    # Archives have to follow the objects.
    LINKCOM="$LINK -o $TARGET $LINKFLAGS $SOURCES " + " ".join(map(shlex.quote, plan["link_tail"])),
)

objects = []
for index, group in enumerate(plan["groups"]):
    build = env.Clone(CCFLAGS=[shlex.quote(flag) for flag in group["flags"]])
    for source in group["sources"]:
        target = Path(env.subst("$BUILD_DIR")) / f"group{index}" / f"{Path(source).stem}.o"
        objects.append(build.Object(str(target), source))

elf = env.Program(str(Path(env.subst("$BUILD_DIR")) / "firmware.elf"), objects)
env.Depends(elf, plan["link_inputs"])
if plan["boot_stage"]:
    env.AddPostAction(elf, lambda target, source, env: seal_boot_stage(Path(target[0].get_abspath())))
binary = env.Command("$BUILD_DIR/firmware.bin", elf, "$OBJCOPY -O binary $SOURCE $TARGET")
ihex = env.Command("$BUILD_DIR/firmware.hex", elf, "$OBJCOPY -O ihex $SOURCE $TARGET")
AlwaysBuild(env.Alias("buildprog", [elf, binary, ihex]))
Default([elf, binary, ihex])
