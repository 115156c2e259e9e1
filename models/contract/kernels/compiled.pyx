# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The functions of plain.py in C: same names, same arguments, same bits; docs/decisions/21-compiled.md says why.

What keeps the bits: sums are added in plain.py's order and never fused with a product (-ffp-contract=off); exp2, log1p
and sums over whole arrays are NumPy's. What keeps memory safe: every index that comes from outside is checked where it
is read; neighbours and codes are only ever looked up, never used as an index.
"""

cimport numpy as cnp
from libc.math cimport INFINITY, rint, sqrt
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import numpy as np

cnp.import_array()

cdef enum:
    DAY_MS = 86_400_000

cdef uint64_t MIX_TIME = 0x9E3779B97F4A7C15
cdef uint64_t MIX_HASH = 0xBF58476D1CE4E5B9
cdef uint64_t TOP_BIT = 0x8000000000000000
cdef double UNKNOWN_DAYS = 365.0
cdef double LOG_200 = np.log(200.0)
cdef object EXP2 = np.exp2
cdef object LOG1P = np.log1p
cdef object ADD_REDUCE = np.add.reduce


# --- arrays in and out ------------------------------------------------------------------------------------------------

cdef cnp.ndarray vector(object values, int kind):
    """The array itself where it is of this kind, one-dimensional, contiguous and aligned; else a copy that is."""
    cdef cnp.ndarray array = <cnp.ndarray>cnp.PyArray_FROM_OTF(values, kind, cnp.NPY_ARRAY_IN_ARRAY)
    if cnp.PyArray_NDIM(array) != 1:
        raise ValueError(f"an array of one dimension is needed, not of {cnp.PyArray_NDIM(array)}")
    return array


cdef cnp.ndarray new_vector(Py_ssize_t size, int kind):
    cdef cnp.npy_intp shape = size
    return <cnp.ndarray>cnp.PyArray_EMPTY(1, &shape, kind, 0)


cdef cnp.ndarray zeros(Py_ssize_t rows, Py_ssize_t columns, int kind):
    cdef cnp.npy_intp[2] shape
    shape[0], shape[1] = rows, columns
    return <cnp.ndarray>cnp.PyArray_ZEROS(2, shape, kind, 0)


cdef void* scratch(size_t size) except NULL:
    cdef void* memory = malloc(size + 1)  # malloc(0) may be NULL
    if memory == NULL:
        raise MemoryError()
    return memory


cdef struct Table:  # a two-dimensional array of integers or floats of any width and strides
    char* data
    Py_ssize_t rows, columns, row_step, column_step, width
    char kind


cdef int open_table(cnp.ndarray array, bint floats, Table* table) except -1:
    cdef cnp.dtype dtype = array.dtype
    if cnp.PyArray_NDIM(array) != 2 or not cnp.PyArray_ISALIGNED(array) or not cnp.PyArray_ISNOTSWAPPED(array):
        raise ValueError("an item table has two dimensions, aligned, in the machine's byte order")
    table.kind, table.width = dtype.kind, cnp.PyArray_ITEMSIZE(array)
    if floats:
        if table.kind != c"f" or table.width not in (2, 4, 8):
            raise ValueError(f"an item table of float16, float32 or float64 is needed, not of {dtype}")
    elif table.kind != c"i" and table.kind != c"u":
        raise ValueError(f"an item table of integers is needed, not of {dtype}")
    table.data = <char*>cnp.PyArray_DATA(array)
    table.rows, table.columns = cnp.PyArray_DIM(array, 0), cnp.PyArray_DIM(array, 1)
    table.row_step, table.column_step = cnp.PyArray_STRIDE(array, 0), cnp.PyArray_STRIDE(array, 1)
    return 0


cdef int check_rows(const int64_t* items, Py_ssize_t size, Table* table) except -1:
    cdef Py_ssize_t i
    for i in range(size):
        if items[i] < 0 or items[i] >= table.rows:
            raise IndexError(f"item {items[i]} is out of bounds for tables of {table.rows} items")
    return 0


cdef extern from *:
    void __builtin_prefetch(const void* address) nogil


cdef void prefetch(const Table* table, const int64_t* rows, Py_ssize_t size) noexcept nogil:
    """Rows stand anywhere in tables larger than any cache: ask for all of them before the first is read."""
    cdef Py_ssize_t i, offset
    for i in range(size):
        for offset in range(0, table.columns * table.width, 64):
            __builtin_prefetch(table.data + rows[i] * table.row_step + offset)


cdef void read_integers(const Table* table, Py_ssize_t row, int64_t* out) noexcept nogil:
    cdef const char* cell = table.data + row * table.row_step
    cdef Py_ssize_t i, step = table.column_step, columns = table.columns
    if table.width == 4 and table.kind == c"i":
        for i in range(columns):
            out[i] = (<const int32_t*>(cell + i * step))[0]
    elif table.width == 2 and table.kind == c"i":
        for i in range(columns):
            out[i] = (<const int16_t*>(cell + i * step))[0]
    elif table.width == 1 and table.kind == c"i":
        for i in range(columns):
            out[i] = (<const int8_t*>(cell + i * step))[0]
    elif table.width == 8:  # an unsigned one past 2**63 stands for nothing that could be looked up
        for i in range(columns):
            out[i] = (<const int64_t*>(cell + i * step))[0]
    elif table.width == 4:
        for i in range(columns):
            out[i] = (<const uint32_t*>(cell + i * step))[0]
    elif table.width == 2:
        for i in range(columns):
            out[i] = (<const uint16_t*>(cell + i * step))[0]
    else:
        for i in range(columns):
            out[i] = (<const uint8_t*>(cell + i * step))[0]


cdef void read_floats(const Table* table, Py_ssize_t row, double* out) noexcept nogil:
    cdef const char* cell = table.data + row * table.row_step
    cdef Py_ssize_t i, step = table.column_step, columns = table.columns
    if table.width == 4:
        for i in range(columns):
            out[i] = (<const float*>(cell + i * step))[0]
    elif table.width == 2:
        for i in range(columns):
            out[i] = of_half((<const uint16_t*>(cell + i * step))[0])
    else:
        for i in range(columns):
            out[i] = (<const double*>(cell + i * step))[0]


cdef inline double read_float(const Table* table, Py_ssize_t row, Py_ssize_t column) noexcept nogil:
    cdef const char* cell = table.data + row * table.row_step + column * table.column_step
    if table.width == 4:
        return (<const float*>cell)[0]
    return of_half((<const uint16_t*>cell)[0]) if table.width == 2 else (<const double*>cell)[0]


cdef inline double of_half(uint16_t half) noexcept nogil:
    """IEEE 754 binary16 as a double, exactly."""
    cdef uint64_t sign = <uint64_t>(half >> 15) << 63, exponent = (half >> 10) & 31, mantissa = half & 1023, bits
    cdef double value = 0.0
    if exponent == 0:  # zero and subnormal numbers
        value = <double>mantissa / 16777216.0
        return -value if sign else value
    bits = sign | ((2047 if exponent == 31 else exponent + 1008) << 52) | (mantissa << 42)
    memcpy(&value, &bits, 8)
    return value


# --- a hash map from int64 to places: open addressing, at most half full ----------------------------------------------

cdef struct Slot:
    int64_t key
    int64_t place  # -1: free


cdef struct Map:
    Slot* slots
    uint64_t mask
    int shift


cdef struct Hit:
    int64_t column, place


cdef int make_map(Map* map, Py_ssize_t size) except -1:
    """For at most `size` keys."""
    cdef int bits = 3
    while ((<size_t>1) << bits) < 2 * <size_t>size:
        bits += 1
    map.shift, map.mask = 64 - bits, ((<uint64_t>1) << bits) - 1
    map.slots = <Slot*>scratch(sizeof(Slot) << bits)
    empty_map(map)
    return 0


cdef inline void empty_map(Map* map) noexcept nogil:
    memset(map.slots, 0xFF, (map.mask + 1) * sizeof(Slot))


cdef inline Slot* slot_of(const Map* map, int64_t key) noexcept nogil:
    """The key's slot, or the free one that it would take."""
    cdef uint64_t at = (<uint64_t>key * MIX_TIME) >> map.shift  # Fibonacci hashing (Knuth, vol. 3, 6.4)
    # While the slot is taken and by another key, as one number: that the first slot settles it can be predicted,
    # whether the key is there cannot. A free slot's place has every bit set.
    while (map.slots[at].key ^ key) & ~(map.slots[at].place >> 63):
        at = (at + 1) & map.mask
    return &map.slots[at]


cdef inline int64_t place_of(const Map* map, int64_t key) noexcept nogil:
    """-1 where the key was not added."""
    return slot_of(map, key).place


cdef inline int64_t add(Map* map, int64_t key, int64_t place) noexcept nogil:
    """The place of the key, which is this one where the key is new."""
    cdef Slot* slot = slot_of(map, key)
    if slot.place < 0:
        slot.key, slot.place = key, place
    return slot.place


cdef inline Py_ssize_t find_hits(const Map* map, const int64_t* keys, Py_ssize_t size, Hit* hits) noexcept nogil:
    """Which of the keys are in the map, and where. Without a branch on that: see `slot_of`."""
    cdef Py_ssize_t i, count = 0
    for i in range(size):
        hits[count].column, hits[count].place = i, place_of(map, keys[i])
        count += hits[count].place >= 0
    return count


# --- order ------------------------------------------------------------------------------------------------------------

cdef struct Row:  # ordered by key, then by tie
    uint64_t key
    uint64_t tie
    int64_t value


cdef inline bint before(const Row* one, const Row* other) noexcept nogil:
    return one.key < other.key or (one.key == other.key and one.tie < other.tie)


cdef inline uint64_t descending(double value) noexcept nogil:
    """Ascending for a descending value: NaN last, the two zeros alike."""
    cdef uint64_t bits = 0
    if value != value:
        return <uint64_t>-1
    value += 0.0  # of the two zeros, the positive one
    memcpy(&bits, &value, 8)
    return bits if bits & TOP_BIT else ~(bits | TOP_BIT)


cdef void sort(Row* rows, Row* spare, Py_ssize_t size) noexcept nogil:
    """Merge sort of runs that insertion has sorted; nothing is moved where two runs are in order already."""
    cdef Py_ssize_t start, middle, end, run = 8, i, j, k
    cdef Row row
    for start in range(0, size, 8):
        end = min(start + run, size)
        for i in range(start + 1, end):
            row, j = rows[i], i
            while j > start and before(&row, &rows[j - 1]):
                rows[j] = rows[j - 1]
                j -= 1
            rows[j] = row
    while run < size:
        start = 0
        while start + run < size:
            middle, end = start + run, min(start + 2 * run, size)
            if before(&rows[middle], &rows[middle - 1]):
                memcpy(spare, &rows[start], run * sizeof(Row))
                i, j, k = 0, middle, start
                while i < run and j < end:
                    if before(&rows[j], &spare[i]):
                        rows[k] = rows[j]
                        j += 1
                    else:
                        rows[k] = spare[i]
                        i += 1
                    k += 1
                memcpy(&rows[k], &spare[i], (run - i) * sizeof(Row))
            start += 2 * run
        run *= 2


cdef void sift(Row* heap, Py_ssize_t root, Py_ssize_t size) noexcept nogil:
    """Let the root of a heap, whose first row is the last in order, sink to its place."""
    cdef Row row = heap[root]
    cdef Py_ssize_t child = 2 * root + 1
    while child < size:
        if child + 1 < size and before(&heap[child], &heap[child + 1]):
            child += 1
        if not before(&row, &heap[child]):
            break
        heap[root], root = heap[child], child
        child = 2 * root + 1
    heap[root] = row


# --- history ----------------------------------------------------------------------------------------------------------

cdef enum:
    WINDOW = 8
    REFINEMENTS = 3


cdef void find_all(const uint64_t* hashes, Py_ssize_t num, const uint64_t* wanted, Py_ssize_t size,
                   int64_t* out) noexcept nogil:
    """Where each of the wanted stands, -1 where it does not.

    Hashes are spread evenly, so a few guesses by proportion come within a few places (interpolation search, Perl, Itai
    and Avni 1978). All keys make each guess together: reads of a large table overlap instead of waiting for each other.
    """
    cdef double density = num / 18446744073709551616.0, guess, last = num - 1
    cdef Py_ssize_t i, at, low
    cdef int tries, smaller, j
    if num < WINDOW:
        for i in range(size):
            low = lower_bound(hashes, num, wanted[i])
            out[i] = low if low < num and hashes[low] == wanted[i] else -1
        return
    for i in range(size):
        out[i] = <int64_t>min(wanted[i] * density, last)
        __builtin_prefetch(hashes + out[i])
    for tries in range(REFINEMENTS):
        for i in range(size):
            guess = out[i] + <int64_t>(wanted[i] - hashes[out[i]]) * density
            out[i] = <int64_t>max(min(guess, last), 0.0)
            __builtin_prefetch(hashes + out[i])
    for i in range(size):
        at = min(max(out[i] - WINDOW // 2, 0), num - WINDOW)
        smaller = 0
        for j in range(WINDOW):
            smaller += hashes[at + j] < wanted[i]
        low = at + smaller
        if (smaller == 0 and at > 0) or (smaller == WINDOW and low < num):  # all guesses failed
            low = lower_bound(hashes, num, wanted[i])
        out[i] = low if low < num and hashes[low] == wanted[i] else -1


cdef Py_ssize_t lower_bound(const uint64_t* hashes, Py_ssize_t num, uint64_t wanted) noexcept nogil:
    """How many of the hashes are smaller."""
    cdef Py_ssize_t low = 0, high = num, middle
    while low < high:
        middle = low + (high - low) // 2
        if hashes[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


def find(hashes, wanted):
    cdef cnp.ndarray table = vector(hashes, cnp.NPY_UINT64), keys = vector(wanted, cnp.NPY_UINT64)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(keys)
    cdef cnp.ndarray found = new_vector(size, cnp.NPY_INT64)
    cdef const uint64_t* key = <const uint64_t*>cnp.PyArray_DATA(keys)
    cdef const uint64_t* stored = <const uint64_t*>cnp.PyArray_DATA(table)
    find_all(stored, cnp.PyArray_SIZE(table), key, size, <int64_t*>cnp.PyArray_DATA(found))
    return found


def read(history_hashes, times_ms, hashes):
    cdef cnp.ndarray keys = vector(history_hashes, cnp.NPY_UINT64), times = vector(times_ms, cnp.NPY_INT64)
    cdef cnp.ndarray table = vector(hashes, cnp.NPY_UINT64), items, moments
    cdef Py_ssize_t i, size = cnp.PyArray_SIZE(keys), num_items = cnp.PyArray_SIZE(table), known = 0
    cdef const uint64_t* key = <const uint64_t*>cnp.PyArray_DATA(keys)
    cdef const int64_t* time = <const int64_t*>cnp.PyArray_DATA(times)
    cdef const uint64_t* stored = <const uint64_t*>cnp.PyArray_DATA(table)
    cdef int64_t in_day
    cdef int64_t* item
    cdef int64_t* moment
    cdef int64_t* place
    if cnp.PyArray_SIZE(times) != size:
        raise ValueError(f"{size} hashes, but {cnp.PyArray_SIZE(times)} times")
    cdef Row* rows = <Row*>scratch(size * (2 * sizeof(Row) + sizeof(int64_t)))
    try:
        place = <int64_t*>(rows + 2 * size)
        find_all(stored, num_items, key, size, place)
        for i in range(size):
            if place[i] < 0:
                continue
            in_day = time[i] % DAY_MS
            if in_day < 0:
                in_day += DAY_MS
            rows[known].key = <uint64_t>time[i] ^ TOP_BIT
            rows[known].tie = (key[i] ^ (<uint64_t>in_day * MIX_TIME)) * MIX_HASH
            rows[known].value = place[i]
            known += 1
        sort(rows, rows + size, known)  # rows that are equal in both are the same item at the same time
        items, moments = new_vector(known, cnp.NPY_INT64), new_vector(known, cnp.NPY_INT64)
        item, moment = <int64_t*>cnp.PyArray_DATA(items), <int64_t*>cnp.PyArray_DATA(moments)
        for i in range(known):
            item[i], moment[i] = rows[i].value, <int64_t>(rows[i].key ^ TOP_BIT)
    finally:
        free(rows)
    return items, moments


def tower_row(items, times_ms, Py_ssize_t length):
    cdef cnp.ndarray told = vector(items, cnp.NPY_INT64), times = vector(times_ms, cnp.NPY_INT64)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(told), i
    if cnp.PyArray_SIZE(times) != size:
        raise ValueError(f"{size} items, but {cnp.PyArray_SIZE(times)} times")
    cdef cnp.ndarray row = new_vector(length, cnp.NPY_INT64), ordinals = new_vector(length, cnp.NPY_INT64)
    cdef const int64_t* item = <const int64_t*>cnp.PyArray_DATA(told)
    cdef const int64_t* time = <const int64_t*>cnp.PyArray_DATA(times)
    cdef int64_t* code = <int64_t*>cnp.PyArray_DATA(row)
    cdef int64_t* ordinal = <int64_t*>cnp.PyArray_DATA(ordinals)
    cdef int64_t newer_sets = 1
    for i in range(1, length + 1):  # from the right end of both
        if i > size:
            code[length - i], ordinal[length - i] = 0, 0
            continue
        if i > 1 and time[size - i] != time[size - i + 1]:
            newer_sets += 1
        code[length - i], ordinal[length - i] = item[size - i] + 1, newer_sets
    return row, ordinals


def distinct(items):
    cdef cnp.ndarray told = vector(items, cnp.NPY_INT64)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(told), i
    cdef cnp.ndarray found = new_vector(size, cnp.NPY_INT64), positions = new_vector(size, cnp.NPY_INT64)
    cdef cnp.ndarray inverse = new_vector(size, cnp.NPY_INT64)
    cdef const int64_t* item = <const int64_t*>cnp.PyArray_DATA(told)
    cdef int64_t* key = <int64_t*>cnp.PyArray_DATA(found)
    cdef int64_t* position = <int64_t*>cnp.PyArray_DATA(positions)
    cdef int64_t* place = <int64_t*>cnp.PyArray_DATA(inverse)
    cdef int64_t count = 0
    cdef Map map
    make_map(&map, size)
    for i in range(size - 1, -1, -1):
        place[i] = add(&map, item[i], count)
        if place[i] == count:
            key[count], position[count] = item[i], i
            count += 1
    free(map.slots)
    return found[:count], positions[:count], inverse


def recency(times_ms, int64_t now_ms, half_lives_days):
    cdef cnp.ndarray times = vector(times_ms, cnp.NPY_INT64)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(times), i, num = len(half_lives_days), h
    cdef cnp.ndarray ages = new_vector(size, cnp.NPY_FLOAT64), decayed = zeros(num, size, cnp.NPY_FLOAT64)
    cdef const int64_t* time = <const int64_t*>cnp.PyArray_DATA(times)
    cdef double* age = <double*>cnp.PyArray_DATA(ages)
    cdef double* left = <double*>cnp.PyArray_DATA(decayed)
    cdef double half_life
    cdef int64_t past
    for i in range(size):
        past = <int64_t>(<uint64_t>now_ms - <uint64_t>time[i])
        age[i] = <double>max(past, 0) / <double>DAY_MS
    for h in range(num):
        half_life = half_lives_days[h]
        for i in range(size):
            left[h * size + i] = -age[i] / half_life
    EXP2(decayed, decayed)
    return ages, decayed


# --- what may be on a list --------------------------------------------------------------------------------------------

def removed_items(arrays):
    cdef list given = [vector(items, cnp.NPY_INT64) for items in arrays]
    cdef cnp.ndarray items
    cdef Py_ssize_t size = sum([len(items) for items in given]), i, count = 0
    cdef const int64_t* item
    cdef cnp.ndarray found = new_vector(size, cnp.NPY_INT64)
    cdef int64_t* out = <int64_t*>cnp.PyArray_DATA(found)
    for items in given:
        item = <const int64_t*>cnp.PyArray_DATA(items)
        for i in range(cnp.PyArray_SIZE(items)):
            if item[i] >= 0:
                out[count] = item[i]
                count += 1
    found = found[:count]
    cnp.PyArray_Sort(found, 0, cnp.NPY_QUICKSORT)
    out = <int64_t*>cnp.PyArray_DATA(found)
    size, count = count, 0
    for i in range(size):
        if count == 0 or out[i] != out[count - 1]:
            out[count] = out[i]
            count += 1
    return found[:count]


def among(items, mask, removed, cnp.ndarray marks):
    cdef cnp.ndarray asked = vector(items, cnp.NPY_INT64), gone = vector(removed, cnp.NPY_INT64), inside
    if cnp.PyArray_NDIM(marks) != 1 or cnp.PyArray_TYPE(marks) != cnp.NPY_BOOL or not cnp.PyArray_ISCARRAY(marks):
        raise ValueError("marks are one writeable array of booleans")
    cdef Py_ssize_t size = cnp.PyArray_SIZE(asked), num_gone = cnp.PyArray_SIZE(gone), num = cnp.PyArray_SIZE(marks), i
    cdef const int64_t* item = <const int64_t*>cnp.PyArray_DATA(asked)
    cdef const int64_t* out = <const int64_t*>cnp.PyArray_DATA(gone)
    cdef uint8_t* mark = <uint8_t*>cnp.PyArray_DATA(marks)
    cdef const uint8_t* let = NULL
    if mask is not None:
        inside = vector(mask, cnp.NPY_BOOL)
        if cnp.PyArray_SIZE(inside) != num:
            raise ValueError(f"a mask of {cnp.PyArray_SIZE(inside)} for {num} items")
        let = <const uint8_t*>cnp.PyArray_DATA(inside)
    for i in range(size):
        if item[i] < -1 or item[i] >= num:
            raise IndexError(f"item {item[i]} is out of bounds for {num} items")
    for i in range(num_gone):
        if out[i] < 0 or out[i] >= num:
            raise IndexError(f"item {out[i]} is out of bounds for {num} items")
    cdef cnp.ndarray found = new_vector(size, cnp.NPY_BOOL)
    cdef uint8_t* is_in = <uint8_t*>cnp.PyArray_DATA(found)
    for i in range(num_gone):
        mark[out[i]] = 1
    for i in range(size):
        is_in[i] = item[i] >= 0 and not mark[item[i]] and (let == NULL or let[item[i]])
    for i in range(num_gone):
        mark[out[i]] = 0
    return found


def activity(days, counts, int64_t since):
    cdef cnp.ndarray day_of = vector(days, cnp.NPY_INT32), count_of = vector(counts, cnp.NPY_UINT32)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(day_of), i
    if cnp.PyArray_SIZE(count_of) != size:
        raise ValueError(f"{size} days, {cnp.PyArray_SIZE(count_of)} counts")
    cdef const int32_t* day = <const int32_t*>cnp.PyArray_DATA(day_of)
    cdef const uint32_t* count = <const uint32_t*>cnp.PyArray_DATA(count_of)
    cdef int64_t total = 0, recent = 0
    for i in range(size):
        if day[i] == 0:
            total += count[i]
        if day[i] > since:
            recent += count[i]
    return <double>total, <double>recent


# --- rows of a table --------------------------------------------------------------------------------------------------

cdef enum:
    AHEAD = 12  # rows asked for before they are copied: a few kB, which the first cache holds


def take_rows(cnp.ndarray table, cnp.ndarray items):
    if not cnp.PyArray_ISINTEGER(items):  # of a mask, say
        raise TypeError(f"rows are named by integers, not by {items.dtype}")
    cdef cnp.ndarray rows = vector(items, cnp.NPY_INT64), taken
    if cnp.PyArray_NDIM(table) != 2 or not cnp.PyArray_IS_C_CONTIGUOUS(table):
        raise ValueError("a contiguous table of two dimensions is needed")
    if not cnp.PyArray_ISNUMBER(table) or not cnp.PyArray_ISNOTSWAPPED(table):
        raise ValueError(f"a table of numbers in the machine's byte order is needed, not of {table.dtype}")
    cdef Py_ssize_t size = cnp.PyArray_SIZE(rows), num = cnp.PyArray_DIM(table, 0), i, offset
    cdef Py_ssize_t width = cnp.PyArray_DIM(table, 1) * cnp.PyArray_ITEMSIZE(table)
    cdef const int64_t* row = <const int64_t*>cnp.PyArray_DATA(rows)
    for i in range(size):
        if row[i] < 0 or row[i] >= num:
            raise IndexError(f"row {row[i]} is out of bounds for a table of {num} rows")
    cdef cnp.npy_intp[2] shape
    shape[0], shape[1] = size, cnp.PyArray_DIM(table, 1)
    taken = <cnp.ndarray>cnp.PyArray_EMPTY(2, shape, cnp.PyArray_TYPE(table), 0)
    cdef const char* data = <const char*>cnp.PyArray_DATA(table)
    cdef char* out = <char*>cnp.PyArray_DATA(taken)
    with nogil:
        for i in range(size + AHEAD):
            if i < size:
                for offset in range(0, width, 64):
                    __builtin_prefetch(data + row[i] * width + offset)
            if i >= AHEAD:
                memcpy(out + (i - AHEAD) * width, data + row[i - AHEAD] * width, width)
    return taken


def texts(cnp.ndarray data, cnp.ndarray offsets, places):
    cdef cnp.ndarray wanted = vector(places, cnp.NPY_INT64), all_bytes = vector(data, cnp.NPY_UINT8)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(wanted), num = cnp.PyArray_SIZE(offsets) - 1, i
    cdef int64_t total = cnp.PyArray_SIZE(all_bytes), start, end
    if cnp.PyArray_NDIM(offsets) != 1 or not cnp.PyArray_ISINTEGER(offsets):
        raise ValueError("offsets are integers in one dimension")
    cdef const int64_t* place = <const int64_t*>cnp.PyArray_DATA(wanted)
    for i in range(size):
        if place[i] < 0 or place[i] >= num:
            raise IndexError(f"place {place[i]} is out of bounds for {num} strings")
    cdef cnp.ndarray starts = vector(offsets[wanted].astype(np.int64), cnp.NPY_INT64)
    cdef cnp.ndarray ends = vector(offsets[wanted + 1].astype(np.int64), cnp.NPY_INT64)
    cdef const char* text = <const char*>cnp.PyArray_DATA(all_bytes)
    cdef list found = []
    for i in range(size):
        start, end = (<const int64_t*>cnp.PyArray_DATA(starts))[i], (<const int64_t*>cnp.PyArray_DATA(ends))[i]
        if not 0 <= start <= end <= total:
            raise IndexError(f"string {place[i]} is out of bounds for {total} bytes")
        found.append(text[start:end].decode("utf-8"))
    return found


def listed(items, scores, sources, because, strings, tuple names):
    cdef cnp.ndarray taken = vector(items, cnp.NPY_INT64), causes = vector(because, cnp.NPY_INT64), places
    cdef cnp.ndarray values = vector(scores, cnp.NPY_FLOAT32), codes = vector(sources, cnp.NPY_UINT8)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(taken), num_names = len(names), i, at = size
    if not size == cnp.PyArray_SIZE(causes) == cnp.PyArray_SIZE(values) == cnp.PyArray_SIZE(codes):
        raise ValueError(f"{size} items, but {len(values)} scores, {len(codes)} sources, {len(causes)} reasons")
    cdef const int64_t* cause = <const int64_t*>cnp.PyArray_DATA(causes)
    cdef const float* value = <const float*>cnp.PyArray_DATA(values)
    cdef const uint8_t* code = <const uint8_t*>cnp.PyArray_DATA(codes)
    for i in range(size):
        if code[i] >= num_names:
            raise IndexError(f"source {code[i]} is out of bounds for {num_names} names")
        at += cause[i] >= 0
    places = new_vector(at, cnp.NPY_INT64)
    cdef int64_t* place = <int64_t*>cnp.PyArray_DATA(places)
    memcpy(place, cnp.PyArray_DATA(taken), size * sizeof(int64_t))
    at = size
    for i in range(size):
        if cause[i] >= 0:
            place[at] = cause[i]
            at += 1
    cdef list ids = strings(places), rows = []
    cdef dict reason
    if len(ids) != at:
        raise ValueError(f"{at} items, but {len(ids)} ids")
    at = size
    for i in range(size):
        reason = None
        if cause[i] >= 0:
            reason = {"kind": "because_of", "item_id": ids[at]}
            at += 1
        rows.append({
            "item_id": ids[i],
            "rank": i + 1,
            "score": rint(<double>value[i] * 1e6) / 1e6,
            "source": names[code[i]],
            "reason": reason,
        })
    return rows


# --- candidates -------------------------------------------------------------------------------------------------------

def own_sums(inverse, weights, Py_ssize_t size):
    cdef cnp.ndarray places = vector(inverse, cnp.NPY_INT64), added = vector(weights, cnp.NPY_FLOAT64)
    cdef Py_ssize_t count = cnp.PyArray_SIZE(places), i
    if cnp.PyArray_SIZE(added) != count:
        raise ValueError(f"{count} places, but {cnp.PyArray_SIZE(added)} weights")
    cdef cnp.ndarray sums = new_vector(size, cnp.NPY_FLOAT64)
    cdef const int64_t* place = <const int64_t*>cnp.PyArray_DATA(places)
    cdef const double* weight = <const double*>cnp.PyArray_DATA(added)
    cdef double* total = <double*>cnp.PyArray_DATA(sums)
    memset(total, 0, size * sizeof(double))
    for i in range(count):
        if place[i] < 0 or place[i] >= size:
            raise IndexError(f"place {place[i]} is out of bounds for {size} items")
        total[place[i]] += weight[i]
    return sums


def neighbour_sums(recent, cnp.ndarray neighbours, cnp.ndarray similarity):
    cdef cnp.ndarray rows = vector(recent, cnp.NPY_INT64)
    cdef Table near, values
    open_pair(neighbours, similarity, &near, &values)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(rows), columns = near.columns, cells = size * columns, i, j
    cdef const int64_t* row = <const int64_t*>cnp.PyArray_DATA(rows)
    check_rows(row, size, &near)
    cdef cnp.ndarray found = new_vector(cells, cnp.NPY_INT64), sums = new_vector(cells, cnp.NPY_FLOAT64)
    cdef int64_t* item = <int64_t*>cnp.PyArray_DATA(found)
    cdef double* total = <double*>cnp.PyArray_DATA(sums)
    cdef int64_t place, count = 0
    cdef Map map
    cdef int64_t* keys = <int64_t*>scratch(columns * (sizeof(int64_t) + sizeof(double)))
    cdef double* value = <double*>(keys + columns)
    try:
        prefetch(&near, row, size)
        prefetch(&values, row, size)
        make_map(&map, cells)
        for i in range(size):
            read_integers(&near, row[i], keys)
            read_floats(&values, row[i], value)
            for j in range(columns):
                if keys[j] < 0:
                    continue
                place = add(&map, keys[j], count)
                if place == count:
                    item[count], total[count] = keys[j], 0.0
                    count += 1
                total[place] += value[j]
        free(map.slots)
    finally:
        free(keys)
    return found[:count], sums[:count]


cdef int open_pair(cnp.ndarray neighbours, cnp.ndarray similarity, Table* near, Table* values) except -1:
    open_table(neighbours, False, near)
    open_table(similarity, True, values)
    if near.rows != values.rows or near.columns != values.columns:
        raise ValueError("neighbours and their similarities need one shape")
    return 0


def best_first(items, weights, keep, Py_ssize_t limit):
    cdef cnp.ndarray told = vector(items, cnp.NPY_INT64), by = vector(weights, cnp.NPY_FLOAT64)
    cdef cnp.ndarray mask = vector(keep, cnp.NPY_BOOL), best
    cdef Py_ssize_t size = cnp.PyArray_SIZE(told), count = 0, i, root
    if cnp.PyArray_SIZE(by) != size or cnp.PyArray_SIZE(mask) != size:
        raise ValueError(f"{size} items, {cnp.PyArray_SIZE(by)} weights, {cnp.PyArray_SIZE(mask)} to keep or not")
    cdef const int64_t* item = <const int64_t*>cnp.PyArray_DATA(told)
    cdef const double* weight = <const double*>cnp.PyArray_DATA(by)
    cdef const uint8_t* kept = <const uint8_t*>cnp.PyArray_DATA(mask)
    cdef int64_t* out
    cdef Row row
    limit = max(min(limit, size), 0)
    cdef Row* heap = <Row*>scratch(2 * limit * sizeof(Row))
    try:
        for i in range(size if limit else 0):
            if not kept[i]:
                continue
            row.key, row.tie, row.value = descending(weight[i]), <uint64_t>item[i] ^ TOP_BIT, item[i]
            if count < limit:
                heap[count] = row
                count += 1
                if count == limit:
                    for root in range(limit // 2 - 1, -1, -1):
                        sift(heap, root, limit)
            elif before(&row, &heap[0]):
                heap[0] = row
                sift(heap, 0, limit)
        sort(heap, heap + limit, count)
        best = new_vector(count, cnp.NPY_INT64)
        out = <int64_t*>cnp.PyArray_DATA(best)
        for i in range(count):
            out[i] = heap[i].value
    finally:
        free(heap)
    return best


def first_named(sources, Py_ssize_t limit):
    cdef list arrays = [(code, vector(found, cnp.NPY_INT64)) for code, found in sources]
    cdef Py_ssize_t size = sum([len(found) for _, found in arrays]), i, count = 0
    limit = max(min(limit, size), 0)
    cdef cnp.ndarray items = new_vector(limit, cnp.NPY_INT64), codes = new_vector(limit, cnp.NPY_UINT8), found
    cdef int64_t* item = <int64_t*>cnp.PyArray_DATA(items)
    cdef uint8_t* code_of = <uint8_t*>cnp.PyArray_DATA(codes)
    cdef const int64_t* named
    cdef uint8_t code
    cdef Map map
    make_map(&map, limit)
    try:
        for code, found in arrays:
            named = <const int64_t*>cnp.PyArray_DATA(found)
            for i in range(cnp.PyArray_SIZE(found)):
                if count == limit:
                    break
                if add(&map, named[i], count) == count:
                    item[count], code_of[count] = named[i], code
                    count += 1
    finally:
        free(map.slots)
    return items[:count], codes[:count]


cdef struct Reason:
    double value
    int64_t rank


cdef inline void weigh(Reason* best, double value, int64_t rank, double threshold) noexcept nogil:
    if value >= threshold and value > 0 and (value > best.value or (value == best.value and rank < best.rank)):
        best.value, best.rank = value, rank


def reasons(items, recent, Py_ssize_t num_read, cnp.ndarray neighbours, cnp.ndarray similarity, threshold):
    cdef cnp.ndarray wanted = vector(items, cnp.NPY_INT64), own = vector(recent, cnp.NPY_INT64)
    cdef Table near, values
    open_pair(neighbours, similarity, &near, &values)
    cdef double least = similarity.dtype.type(threshold)  # compared in the table's own type, as NumPy does
    cdef Py_ssize_t size = cnp.PyArray_SIZE(wanted), num_own = cnp.PyArray_SIZE(own), columns = near.columns, i, j
    cdef const int64_t* item = <const int64_t*>cnp.PyArray_DATA(wanted)
    cdef const int64_t* taken = <const int64_t*>cnp.PyArray_DATA(own)
    check_rows(item, size, &near)
    num_read = max(min(num_read, num_own), 0)
    check_rows(taken, num_read, &near)
    cdef cnp.ndarray found = new_vector(size, cnp.NPY_INT64)
    cdef int64_t* out = <int64_t*>cnp.PyArray_DATA(found)
    cdef Map ranks, places
    cdef Reason* best = <Reason*>scratch(size * sizeof(Reason) + columns * (sizeof(int64_t) + sizeof(Hit)))
    cdef int64_t* keys = <int64_t*>(best + size)
    cdef Hit* hits = <Hit*>(keys + columns)
    ranks.slots, places.slots = NULL, NULL
    try:
        prefetch(&near, item, size)
        prefetch(&near, taken, num_read)
        prefetch(&values, item, size)
        prefetch(&values, taken, num_read)
        make_map(&ranks, 2 * num_own)
        make_map(&places, 2 * size)
        for i in range(num_own):
            add(&ranks, taken[i], i)
        for i in range(size):
            add(&places, item[i], i)
            best[i].value, best[i].rank = 0.0, -1
            read_integers(&near, item[i], keys)
            for j in range(find_hits(&ranks, keys, columns, hits)):
                weigh(&best[i], read_float(&values, item[i], hits[j].column), hits[j].place, least)
        for i in range(num_read):
            read_integers(&near, taken[i], keys)
            for j in range(find_hits(&places, keys, columns, hits)):
                weigh(&best[hits[j].place], read_float(&values, taken[i], hits[j].column), i, least)
        for i in range(size):
            out[i] = taken[best[i].rank] if best[i].rank >= 0 else -1
    finally:
        free(ranks.slots)
        free(places.slots)
        free(best)
    return found


# --- cross features ---------------------------------------------------------------------------------------------------

cdef enum:
    NUM_CROSS = 10
    NUM_LOGGED = 6
    RANK = 0  # rows of what log1p is taken of
    COUNT = 1
    DECAYED = 2  # and 3
    SINCE = 4
    NEAR_SUM = 5


cdef struct Own:  # what the user did, as `distinct` and `recency` tell it
    Py_ssize_t num_distinct, num
    const int64_t* items
    const int64_t* positions
    const int64_t* inverse
    const double* ages
    const double* decayed  # [2, num]


cdef int open_own(Own* own, list arrays) except -1:
    """arrays: distinct items, positions, inverse, ages, decayed. Kept alive by the caller."""
    cdef Py_ssize_t i
    own.num_distinct, own.num = cnp.PyArray_SIZE(<cnp.ndarray>arrays[0]), cnp.PyArray_SIZE(<cnp.ndarray>arrays[2])
    own.items = <const int64_t*>cnp.PyArray_DATA(<cnp.ndarray>arrays[0])
    own.positions = <const int64_t*>cnp.PyArray_DATA(<cnp.ndarray>arrays[1])
    own.inverse = <const int64_t*>cnp.PyArray_DATA(<cnp.ndarray>arrays[2])
    own.ages = <const double*>cnp.PyArray_DATA(<cnp.ndarray>arrays[3])
    own.decayed = <const double*>cnp.PyArray_DATA(<cnp.ndarray>arrays[4])
    if [len(array) for array in arrays] != [own.num_distinct, own.num_distinct, own.num, own.num, 2 * own.num]:
        raise ValueError("the arrays of a history do not fit each other")
    for i in range(own.num):
        if own.inverse[i] < 0 or own.inverse[i] >= own.num_distinct:
            raise IndexError(f"place {own.inverse[i]} is out of bounds for {own.num_distinct} items")
    for i in range(own.num_distinct):
        if own.positions[i] < 0 or own.positions[i] >= own.num:
            raise IndexError(f"position {own.positions[i]} is out of bounds for {own.num} interactions")
    return 0


def cross(items, scores, own, aged, Py_ssize_t num_recent, cnp.ndarray neighbours, cnp.ndarray similarity,
          cnp.ndarray affinity):
    cdef cnp.ndarray wanted = vector(items, cnp.NPY_INT64)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(wanted)
    cdef const int64_t* item = <const int64_t*>cnp.PyArray_DATA(wanted)
    cdef list arrays = [vector(array, cnp.NPY_INT64) for array in own]
    cdef object decayed = aged[1]
    arrays += [vector(aged[0], cnp.NPY_FLOAT64), vector(decayed.reshape(-1), cnp.NPY_FLOAT64)]
    cdef Own told
    open_own(&told, arrays)
    cdef Table near, values, codes
    open_pair(neighbours, similarity, &near, &values)
    open_table(affinity, False, &codes)
    num_recent = max(min(num_recent, told.num_distinct), 0)
    check_rows(told.items, num_recent, &near)
    if codes.columns:
        check_rows(told.items, told.num_distinct, &codes)
        check_rows(item, n, &codes)
    cdef Py_ssize_t columns = NUM_CROSS + codes.columns
    cdef cnp.ndarray found = zeros(n, columns, cnp.NPY_FLOAT32), logged = zeros(NUM_LOGGED, n, cnp.NPY_FLOAT64)
    cdef float* out = <float*>cnp.PyArray_DATA(found)
    cdef double* logs = <double*>cnp.PyArray_DATA(logged)
    cdef double* largest = <double*>scratch(n * sizeof(double))
    cdef Map places
    cdef Py_ssize_t i
    prefetch(&near, told.items, num_recent)
    prefetch(&values, told.items, num_recent)
    if codes.columns:
        prefetch(&codes, told.items, told.num_distinct)
        prefetch(&codes, item, n)
    places.slots = NULL
    try:
        make_map(&places, 2 * n)
        for i in range(n):
            add(&places, item[i], i)
            largest[i] = 0.0
        standardise(scores, n, columns, out, logs + RANK * n)
        own_history(&places, n, &told, columns, out, logs)
        near_recent(&places, &told, num_recent, &near, &values, logs + NEAR_SUM * n, largest)
        if codes.columns:
            affinities(item, n, &told, ADD_REDUCE(decayed[1]), &codes, columns, out)
        LOG1P(logged, logged)
        for i in range(n):
            out[i * columns + 1] = <float>(logs[RANK * n + i] / LOG_200)
            out[i * columns + 2] = <float>logs[COUNT * n + i]
            out[i * columns + 3] = <float>logs[DECAYED * n + i]
            out[i * columns + 4] = <float>logs[(DECAYED + 1) * n + i]
            out[i * columns + 5] = <float>(logs[SINCE * n + i] / 3.0)
            out[i * columns + 8] = <float>logs[NEAR_SUM * n + i]
            out[i * columns + 9] = <float>largest[i]
    finally:
        free(places.slots)
        free(largest)
    return found


cdef int standardise(object scores, Py_ssize_t n, Py_ssize_t columns, float* out, double* ranks) except -1:
    """The standardised score into column 0, and the ranks."""
    cdef cnp.ndarray values = vector(scores, cnp.NPY_FLOAT64), squares
    cdef const double* value = <const double*>cnp.PyArray_DATA(values)
    cdef double* square
    cdef double mean, spread
    cdef Py_ssize_t i
    if cnp.PyArray_SIZE(values) != n:
        raise ValueError(f"{n} items, but {cnp.PyArray_SIZE(values)} scores")
    if n == 0:
        return 0
    squares = new_vector(n, cnp.NPY_FLOAT64)
    square = <double*>cnp.PyArray_DATA(squares)
    mean = <double>ADD_REDUCE(values) / <double>n
    for i in range(n):
        square[i] = value[i] - mean
        square[i] *= square[i]
    spread = sqrt(<double>ADD_REDUCE(squares) / <double>n) + 1e-6
    cdef Row* rows = <Row*>scratch(2 * n * sizeof(Row))
    for i in range(n):
        out[i * columns] = <float>((value[i] - mean) / spread)
        rows[i].key, rows[i].tie, rows[i].value = descending(value[i]), i, i
    sort(rows, rows + n, n)
    for i in range(n):
        ranks[rows[i].value] = <double>i
    free(rows)
    return 0


cdef int own_history(const Map* places, Py_ssize_t n, const Own* own, Py_ssize_t columns, float* out,
                     double* logs) except -1:
    cdef double* count = logs + COUNT * n
    cdef double* short_lived = logs + DECAYED * n
    cdef double* long_lived = logs + (DECAYED + 1) * n
    cdef double* newest = logs + SINCE * n
    cdef double* oldest = <double*>scratch(n * sizeof(double) + own.num_distinct * sizeof(int64_t))
    cdef int64_t* slot = <int64_t*>(oldest + n)
    cdef double interval
    cdef Py_ssize_t i, at
    for i in range(n):
        newest[i], oldest[i] = INFINITY, -INFINITY
    for i in range(own.num_distinct):
        slot[i] = place_of(places, own.items[i])
    for i in range(own.num):
        at = slot[own.inverse[i]]
        if at < 0:
            continue
        count[at] += 1.0
        short_lived[at] += own.decayed[i]
        long_lived[at] += own.decayed[own.num + i]
        newest[at] = min(newest[at], own.ages[i])
        oldest[at] = max(oldest[at], own.ages[i])
    for i in range(n):
        if count[i] == 0:
            newest[i] = UNKNOWN_DAYS
        elif count[i] > 1 and oldest[i] > newest[i]:
            interval = (oldest[i] - newest[i]) / (count[i] - 1.0)
            out[i * columns + 6] = <float>min(newest[i] / max(interval, 0.5), 4.0)
            out[i * columns + 7] = 1.0
    free(oldest)
    return 0


cdef int near_recent(const Map* places, const Own* own, Py_ssize_t num_recent, const Table* near, const Table* values,
                     double* total, double* largest) except -1:
    cdef int64_t* keys = <int64_t*>scratch(near.columns * (sizeof(int64_t) + sizeof(Hit)))
    cdef Hit* hits = <Hit*>(keys + near.columns)
    cdef Py_ssize_t i, j
    cdef int64_t at
    cdef double weight, value
    for i in range(num_recent):
        weight = own.decayed[own.num + own.positions[i]]
        read_integers(near, own.items[i], keys)
        for j in range(find_hits(places, keys, near.columns, hits)):
            at, value = hits[j].place, read_float(values, own.items[i], hits[j].column)
            total[at] += value * weight
            if not (largest[at] > value or largest[at] != largest[at]):  # a NaN stays
                largest[at] = value
    free(keys)
    return 0


cdef enum:
    FEW_CODES = 4096  # as many fit into the first cache


cdef int affinities(const int64_t* item, Py_ssize_t n, const Own* own, double total, const Table* codes,
                    Py_ssize_t columns, float* out) except -1:
    """Masses stand in an array by code where the codes are few, else behind a map."""
    cdef Py_ssize_t num_own = own.num_distinct, width = codes.columns, i, column
    cdef size_t integers = num_own * width + n * width + num_own
    cdef int64_t* owned = <int64_t*>scratch(integers * sizeof(int64_t) + max(num_own, FEW_CODES) * sizeof(double))
    cdef int64_t* wanted = owned + num_own * width
    cdef int64_t* place = wanted + n * width
    cdef double* mass = <double*>(place + num_own)
    cdef int64_t at, code
    cdef uint64_t largest
    cdef Map map
    map.slots = NULL
    try:
        for i in range(num_own):
            read_integers(codes, own.items[i], owned + i * width)
        for i in range(n):
            read_integers(codes, item[i], wanted + i * width)
        for column in range(width):
            largest = 0  # of the owned; unsigned, so that a negative one is large
            for i in range(num_own):
                largest = max(largest, <uint64_t>owned[i * width + column])
            if largest < FEW_CODES:
                for i in range(num_own):
                    place[i] = owned[i * width + column]
                memset(mass, 0, (largest + 1) * sizeof(double))
            else:
                if map.slots == NULL:
                    make_map(&map, num_own)
                else:
                    empty_map(&map)
                for i in range(num_own):
                    place[i], mass[i] = add(&map, owned[i * width + column], i), 0.0
            for i in range(own.num):
                mass[place[own.inverse[i]]] += own.decayed[own.num + i]
            for i in range(n):
                code = wanted[i * width + column]
                if largest < FEW_CODES:
                    at = code if code <= <int64_t>largest else -1
                else:
                    at = place_of(&map, code)
                if at >= 0 and code > 0 and total > 0:
                    out[i * columns + NUM_CROSS + column] = <float>sqrt(mass[at] / total)
    finally:
        free(map.slots)
        free(owned)
    return 0
