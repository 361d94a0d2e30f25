"""Which cells of a test are fast where all of them together take long: every so many-th, in the order of its table.

The tables of the matrix are in the order of the registries, so that what is left goes through every family. The other
cells are slow, and part of the catalogue (pyproject.toml): `pytest -m slow -k name` runs them all. What holds a rule to
its paper, each equation in float64 at three scales and each oracle against each golden row, is not thinned out.
"""

EVERY = {
    "contracts/test_avals.py": {"test_mixed_tree_runs": 2, "test_types_of_every_pair": 5, "test_x64": 3},
    "contracts/test_buffers.py": {
        "test_donated_step_runs_and_aliases": 2, "test_fresh_state_shares_no_buffer": 2,
        "test_a_donated_step_copies_nothing": 2,
    },
    "contracts/test_compile.py": {
        "test_one_trace": 4, "test_vmapped_replicas_are_single_runs": 2, "test_vmapped_sweep_is_single_runs": 3,
        "test_no_eager_compilation_after_warm_up": 2, "test_jit_is_eager": 3,
    },
    "contracts/test_extremes.py": {
        "test_zero_and_huge_gradients": 8, "test_infinite_gradients_show_in_the_step_they_come_with": 3,
        "test_nan_gradients_are_not_hidden": 3, "test_derivative_through_steps_of_a_matrix_is_finite_at_every_scale": 3,
        "test_derivative_through_a_step_is_finite_at_zero": 3,
    },
    "contracts/test_leaves.py": {"test_split_leaves_are_the_merged_leaf": 4, "test_equinox_mlp_unfiltered": 2},
    "contracts/test_oracle.py": {"test_f64_with_engine_options": 6, "test_f32": 2, "test_stored": 2},
    "contracts/test_units.py": {"test_a_rescaled_rule_is_the_rule_in_another_unit": 7},
    "test_accumulation.py": {
        "test_every_optimizer_moves_as_on_the_whole_batch": 2, "test_every_controller_moves_as_on_the_whole_batch": 3,
    },
    "test_alias.py": {"test_case": 6},
    "test_any_number.py": {"test_a_scheduled_number_is_the_one_set_by_hand": 3},
    "test_around.py": {
        "test_state_is_stable_donatable_and_fits_optax": 6, "test_it_equals_the_authors_program": 2,
        "test_what_rounding_keeps_is_carried_over_as_the_wrapper_has_it": 3,
        "test_a_shield_goes_back_and_the_wrapper_inside_starts_there": 3, "test_bf16_parameters_take_every_rounding": 3,
        "test_a_skipped_step_moves_nothing_at_any_depth": 2,
        "test_in_f32_it_equals_its_oracle_at_every_scale_of_the_gradients": 2,
        "test_a_leaf_without_a_gradient_stays": 2, "test_states_are_carried_over": 2,
    },
    "test_attacked.py": {"test_factors_of_huge_gradients_stay_finite": 3},
    "test_blocks.py": {
        "test_steps_of_any_shape": 2, "test_a_bad_element_does_not_poison_its_block": 2, "test_blocks_of_any_shape": 3,
    },
    "test_checkpoints.py": {"test_it_goes_on_to_the_same_bit": 3, "test_data_go_on_where_they_were": 2},
    "test_codecs.py": {"test_rounding_is_unbiased_on_two_neighbors": 2},
    "test_compiler.py": {"test_norm_of_one_large_array": 2},
    "test_controllers_bandit.py": {"test_a_bad_rate_is_mended_in_both_directions": 3},
    "test_controllers_contract.py": {
        "test_a_batch_of_rates_equals_single_runs": 6, "test_one_program_donated_for_every_rate_and_as_eager": 4,
        "test_types_are_stable_in_a_scan": 2, "test_the_rate_read_is_the_rate_used": 2,
        "test_bf16_parameters_arrive": 2,
    },
    "test_controllers_oracles.py": {"test_library_equals_authors_program": 4},
    "test_convert.py": {"test_a_state_goes_on_in_every_storage_and_comes_back": 2},
    "test_crossings.py": {
        "test_a_skipped_step_moves_nothing_at_any_depth": 2, "test_slots_of_their_own_shape_are_stored_and_read": 2,
    },
    "test_decompositions.py": {"test_no_batch_reaches_lapack": 4, "test_second_derivatives_through_a_scan": 2},
    "test_export.py": {"test_every_optimizer_lowers_for_accelerators": 3},
    "test_extras.py": {
        "test_narrow_storage_and_parameters": 3, "test_derivatives_are_finite_at_zero": 4,
        "test_all_of_it_beside_controllers": 3, "test_clipping_is_optax_s": 2, "test_what_is_not_finite_shows": 3,
        "test_f32_at_every_scale": 3, "test_update_is_step_and_an_optimizer_is_a_value": 3,
        "test_numbers_may_be_batches_and_derived_by": 3, "test_a_steady_gradient_surprises_no_rule": 3,
        "test_nothing_to_do_is_nothing_done": 3,
    },
    "test_fit_crossings.py": {
        "test_fit_is_the_loop_by_hand_in_every_storage": 37, "test_fit_is_the_loop_by_hand_under_every_option": 7,
        "test_an_interrupted_training_ends_the_same_in_every_storage": 53,
        "test_watching_changes_nothing_by_update": 53,
    },
    "test_golden.py": {"test_library_equals_peer": 8},
    "test_hessians.py": {"test_an_argument_that_is_not_finite_shows_where_it_is": 3},
    "test_interop.py": {"test_from_optax": 3, "test_to_optax": 3, "test_from_torch": 2, "test_to_torch": 2},
    "test_iterates.py": {"test_state_is_stable_donatable_and_fits_optax": 3},
    "test_layout.py": {"test_packed_is_leafwise": 2, "test_types_hold_in_every_storage_and_rounding": 3},
    "test_lr_free.py": {"test_padding_takes_no_part": 2, "test_every_method_is_traced_by_its_knob": 4},
    "test_momentum.py": {
        "test_a_rule_without_momentum_forgets_a_gradient_and_one_with_it_does_not": 7,
        "test_schedule_free_of_every_rule_equals_its_oracle": 5,
    },
    "test_norms.py": {
        "test_skipped_steps_are_atomic_and_counted": 2, "test_the_norm_is_differentiable_at_every_scale": 2,
        "test_global_norm": 2, "test_clipping_at_every_scale": 3,
    },
    "test_orthogonal.py": {
        "test_kernels_are_the_matrices_they_are_seen_as": 4, "test_matrices_are_x_w_unless_told_otherwise": 2,
        "test_what_is_no_hidden_matrix_is_adamws": 2,
    },
    "test_paths.py": {"test_a_pattern_means_the_same_in_an_nnx_state_and_at_a_step": 2},
    "test_peers.py": {"test_a_row_whose_peer_is_the_same_takes_the_same_steps": 3},
    "test_preconditioned.py": {
        "test_uneven_blocks_are_the_blocks_one_by_one": 3, "test_derivatives_through_shampoo_are_those_of_its_roots": 4,
        "test_narrow_storage_trains_where_gradients_lack_rank": 2, "test_derivatives_by_eps_are_no_rounding": 2,
        "test_a_stack_of_matrices_moves_as_the_matrices": 2,
        "test_the_derivative_of_a_root_is_its_divided_differences": 2,
    },
    "test_race.py": {"test_a_member_equals_its_single_run": 2},
    "test_race_report.py": {"test_a_failure_leaves_no_half_file": 2, "test_a_file_of_the_user_is_raced": 2},
    "test_recipes.py": {"test_it_trains_and_says_what_it_does": 2, "test_engine_options_reach_it": 4},
    "test_rounding.py": {"test_small_updates_arrive": 3, "test_weight_decay_arrives": 3},
    "test_routes.py": {"test_wrappers_around_a_route": 2},
    "test_sam.py": {"test_the_imaginary_error_function": 2, "test_parts_along_a_named_axis_are_summed": 2},
    "test_schedules.py": {"test_arrays_traced_and_vmapped_steps_equal_a_loop": 6, "test_optax_schedules_are_optax": 3},
    "test_shield.py": {"test_bias_correction_starts_again_too": 2, "test_what_a_rollback_does": 2},
    "test_show.py": {
        "test_slots_cost_what_the_engine_says": 4, "test_every_card_is_complete": 2, "test_arguments_are_explained": 2,
    },
    "test_silent.py": {
        "test_a_max_norm_whose_square_overflows_bounds_all_the_same": 3, "test_what_is_not_finite_shows": 2,
        "test_a_gradient_whose_square_overflows_is_exact_or_skipped": 2,
        "test_a_skipped_step_moves_nothing_inside_a_wrapper": 2,
    },
    "test_stacks.py": {"test_a_stack_moves_as_its_leaves": 4},
    "test_state_dict.py": {"test_through_a_file_of_arrays": 2},
    "test_storage.py": {"test_closed_loop": 3, "test_second_moment_follows_f32": 2},
    "test_storage_matrix.py": {
        "test_controllers_over_narrow_slots": 2, "test_weight_decay_over_narrow_slots": 2,
        "test_scan_donation_and_one_trace": 3,
    },
    "test_structure.py": {
        "test_metrics_are_no_part_of_what_a_state_is": 3, "test_optax_finds_what_is_like_the_parameters": 3,
    },
    "test_told.py": {"test_every_way_is_opt_step": 3, "test_how_many_steps_go_into_a_dispatch_changes_no_number": 2},
    "test_unusual.py": {
        "test_states_and_optimizers_travel": 3, "test_a_batch_of_wrappers_and_routes": 3,
        "test_derivatives_of_a_training_are_finite": 2,
    },
    "test_value.py": {
        "test_copies_and_pickles": 3, "test_closing_over_is_passing": 2, "test_leaves_may_be_anything": 2,
    },
    "test_where_parts_meet.py": {
        "test_a_rule_of_whole_rows_sees_whole_rows_in_every_storage": 2,
        "test_a_constant_controller_is_a_plain_rate_to_the_last_bit": 2,
    },
}  # fmt: skip
