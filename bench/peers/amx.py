"""Lets torch use AMX on virtual machines that have it but hide the CPUID leaf that describes its tiles.

Leaf 0x1D tells that palette 1 has 8 tiles of 16 rows of 64 bytes, the only palette there is. Where a
hypervisor answers zeros, oneDNN configures palette 0 and dies of an illegal instruction. `mend` puts
a call to eight lines of machine code in place of each of oneDNN's questions for that leaf; on every
other machine it does nothing.
"""

import ctypes
import mmap
import re

# mov eax, 0x1d; xor ecx, ecx; cpuid, with rbx kept.
ASK = bytes.fromhex("53 b81d000000 31c9 0fa2 5b c3")
# ecx = 0: eax = 1, the last palette. Else: its bytes, tiles, rows, as Intel's manual lists them.
ANSWER = bytes.fromhex(
    "85c9 750a"  # test ecx, ecx; jnz +10
    "b801000000 31db 31d2 c3"  # mov eax, 1; xor ebx, ebx; xor edx, edx; ret
    "b800200004 bb40000800 b910000000 31d2 c3"  # mov eax, 0x04002000; ebx, 0x80040; ecx, 16
)
# mov eax, 0x1d; xor ecx, ecx or mov ecx, r12d; cpuid.
QUESTION = re.compile(rb"\xb8\x1d\x00\x00\x00(\x31\xc9|\x44\x89\xe1)\x0f\xa2", re.DOTALL)
PAGE = mmap.PAGESIZE
READ_RUN, ALL = 5, 7


def mend():
    """Answers for the leaf where it is hidden; call it when torch is loaded and has computed nothing."""
    try:
        with open("/proc/cpuinfo") as file:
            has_tiles = " amx_tile " in file.read()
        if has_tiles and not leaf_is_there():
            answer_questions()
    except OSError:
        return


def leaf_is_there():
    """Whether CPUID tells a palette."""
    code = mmap.mmap(-1, PAGE, prot=ALL)
    code.write(ASK)
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return ctypes.CFUNCTYPE(ctypes.c_uint32)(address)() != 0


def answer_questions():
    """Replaces the questions in the code of torch."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for begin, end, offset, path in spans_of_code("libtorch_cpu.so"):
        found = list(questions(path, offset, end - begin))
        if not found:
            continue
        answer = near(library, end)
        ctypes.memmove(answer, ANSWER, len(ANSWER))
        for place, count in found:
            site = begin + place
            distance = answer - (site + len(count) + 5)
            code = count + b"\xe8" + distance.to_bytes(4, "little", signed=True) + b"\x66\x90"
            first = site // PAGE * PAGE
            span = (site + len(code) - first + PAGE - 1) // PAGE * PAGE
            library.mprotect(first, span, ALL)
            ctypes.memmove(site, code, len(code))
            library.mprotect(first, span, READ_RUN)


def spans_of_code(name):
    """Where the executable parts of a library lie: first and last address, place in the file, path."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            words = line.split()
            if words[-1].endswith(name) and words[1].startswith("r-x"):
                begin, end = (int(bound, 16) for bound in words[0].split("-"))
                yield begin, end, int(words[2], 16), words[-1]


def questions(path, offset, size):
    """Place and inner instruction of each question; read in pieces, so as not to count as memory."""
    piece, overlap = 1 << 24, 16
    with open(path, "rb") as file:
        for start in range(0, size, piece):
            file.seek(offset + start)
            for question in QUESTION.finditer(file.read(min(piece + overlap, size - start))):
                if question.start() < piece:
                    yield start + question.start(), question.group(1)


def near(library, address):
    """A page that a call from `address` reaches: within 2 GiB."""
    private_anonymous_at_hint = 0x02 | 0x20 | 0x100000
    for step in range(1, 1 << 12):
        wanted = (address + step * (1 << 18)) // PAGE * PAGE
        found = library.mmap(wanted, PAGE, ALL, private_anonymous_at_hint, -1, 0)
        if found == wanted:
            return found
    raise OSError("no free page near torch")
