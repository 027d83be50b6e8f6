"""What is read in the text of a module that XLA has optimized."""

import pytest

from jaxrecipes.plan.hlo import read_module
from jaxrecipes.plan.kernels import Collective, work_of

MODULE = """HloModule jit_run, is_scheduled=true

%body (carry: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %carry = (s32[], f32[8,4]{1,0}) parameter(0)
  %x = f32[8,4]{1,0} get-tuple-element(%carry), index=1
  %i = s32[] get-tuple-element(%carry), index=0
  %twice = f32[8,4]{1,0} add(%x, %x)
  ROOT %out = (s32[], f32[8,4]{1,0}) tuple(%i, %twice)
}

%rows (table: f32[100,4], start: s32[]) -> f32[2,4] {
  %table = f32[100,4]{1,0} parameter(0)
  %start = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %part = f32[2,4]{1,0} dynamic-slice(%table, %start, %zero), dynamic_slice_sizes={2,4}
}

%product (a: bf16[16,32], b: bf16[32,64]) -> bf16[16,64] {
  %a = bf16[16,32]{1,0} parameter(0)
  %b = bf16[32,64]{1,0} parameter(1)
  ROOT %dot = bf16[16,64]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (p0: bf16[16,32], p1: bf16[32,64], p2: f32[100,4], p3: s32[]) -> f32[2,4] {
  %p0 = bf16[16,32]{1,0} parameter(0)
  %p1 = bf16[32,64]{1,0} parameter(1)
  %p2 = f32[100,4]{1,0} parameter(2)
  %p3 = s32[] parameter(3)
  %gemm = bf16[16,64]{1,0} fusion(%p0, %p1), kind=kCustom, calls=%product
  %conv = f32[1,8,8,5]{3,2,1,0} custom-call(%im, %ke), \
window={size=3x3}, dim_labels=b01f_01io->b01f, \
custom_call_target="__cudnn$convForward"
  %im = f32[1,8,8,2]{3,2,1,0} constant({...})
  %ke = f32[3,3,2,5]{3,2,1,0} constant({...})
  %start = (s32[], f32[8,4]{1,0}) constant({...})
  %loop = (s32[], f32[8,4]{1,0}) while(%start), condition=%cond, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  %open = (s32[], f32[8,4]{1,0}) while(%start), condition=%cond, body=%body
  %gather = (f32[25,4]{1,0}, f32[100,4]{1,0}) all-gather-start(%shard), \
replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}
  %shard = f32[25,4]{1,0} constant({...})
  %done = f32[100,4]{1,0} all-gather-done(%gather)
  ROOT %taken = f32[2,4]{1,0} fusion(%done, %p3), kind=kLoop, calls=%rows
}
"""


@pytest.fixture(scope="module")
def work():
    return work_of(read_module(MODULE))


def test_products_count_two_for_each_multiplication_by_the_dtype_of_their_operands(work):
    flops = [kernel.flops for kernel in work.kernels if kernel.flops]
    assert flops == [{"bf16": 2 * 16 * 32 * 64}, {"f32": 2 * 8 * 8 * 5 * 9 * 2}]


def test_a_kernel_reads_and_writes_whole_arrays(work):
    assert work.kernels[0].traffic == 2 * (16 * 32 + 32 * 64 + 16 * 64)


def test_of_a_table_only_the_rows_that_are_taken_are_read(work):
    assert work.kernels[-1].traffic == 4 * (2 * 4 + 1 + 2 * 4)


def test_a_loop_counts_as_often_as_the_compiler_knows_that_it_runs(work):
    assert sorted(kernel.times for kernel in work.kernels) == [1, 1, 1, 1, 5]
    assert work.data_loops == 1
    assert work.data_branches == 0


def test_a_gather_is_counted_with_what_it_makes(work):
    (gather,) = work.collectives
    assert (gather.kind, gather.bytes, gather.elements) == ("all-gather", 1600, 400)
    assert gather.groups == ((0, 2, 4, 6), (1, 3, 5, 7))


@pytest.mark.parametrize(
    ("kind", "groups", "seconds"),
    [
        ("all-gather", ((0, 1), (2, 3)), 0.5 * 100 / 10),
        ("all-gather", ((0, 2), (1, 3)), 0.5 * 100 / 1),
        ("all-reduce", ((0, 1), (2, 3)), 2 * 0.5 * 100 / 10),
        ("all-reduce", (), 2 * 0.75 * 100 / 1),
        ("all-gather", ((0,), (1,)), 0),
    ],
)
def test_devices_of_several_hosts_exchange_at_the_speed_of_the_network(kind, groups, seconds):
    one = Collective(kind, 100, 25, groups, 1)
    assert one.seconds(devices=4, per_host=2, link=10, network=1) == seconds


def test_a_text_without_a_module_is_refused():
    with pytest.raises(ValueError, match="no text of an HLO module"):
        read_module("nothing")
