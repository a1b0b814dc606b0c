//! What the store promises, as cases that run on SQLite (`store_sqlite.rs`) and on Postgres (`store_postgres.rs`).
//!
//! A case is an async function over a fresh, stamped store. [`each_case`] hands their names to a backend, so that no
//! case can be on one backend only.

mod accounts;
mod deployments;
mod domains;
mod fleet;
mod keys;
mod rows;
mod transactions;

pub(crate) use accounts::*;
pub(crate) use deployments::*;
pub(crate) use domains::*;
pub(crate) use fleet::*;
pub(crate) use keys::*;
pub(crate) use transactions::*;

/// Calls `$run!` with the name of every case.
macro_rules! each_case {
    ($run:ident) => {
        $run! {
            what_a_failed_body_wrote_is_gone
            a_transaction_that_is_dropped_has_written_nothing_and_frees_the_store
            a_read_sees_one_moment_whatever_is_committed_meanwhile
            a_read_cannot_write
            writers_wait_for_each_other_and_no_update_is_lost
            publishing_freezes_for_the_first_reason_until_it_is_thawed
            freezing_refuses_what_waits_and_sets_earlier_reports_aside
            another_life_of_the_store_has_another_name

            a_token_reads_back_with_its_hash_only
            an_expired_or_revoked_token_does_not_work
            the_audit_log_is_one_chain_even_under_contention
            a_changed_audit_entry_breaks_the_chain
            a_key_is_claimed_once_and_answers_again
            one_users_keys_are_not_anothers

            a_deployment_reads_back_as_itself
            no_query_shows_another_accounts_deployments
            a_name_is_taken_until_its_deployment_is_terminated
            of_two_changes_to_one_version_the_second_is_refused
            a_transition_and_its_line_are_one_commit
            a_timeline_keeps_its_first_line_and_the_latest
            a_transition_that_is_no_news_changes_nothing
            a_terminated_deployments_files_are_destroyed
            a_renumbered_revision_has_the_same_content
            what_a_new_revision_does_not_change_stays_as_it_was_sealed
            pages_follow_each_other_without_gaps
            what_hosts_hold_is_the_sum_of_their_deployments
            operations_are_answered_once
            tombstones_are_buried_once
            a_sealed_file_stays_as_it_was_first_sealed
            a_domain_reads_back_as_itself_and_is_claimed_once_by_a_deployment
            of_many_claims_of_a_domain_one_is_proved
            domains_are_looked_at_when_they_are_due_the_longest_waiting_first
            each_host_is_known_with_the_tenants_on_it

            secrets_are_listed_without_the_config_and_destroyed_in_every_revision
            what_another_key_wraps_is_found_page_by_page
            a_key_is_retired_when_nothing_is_wrapped_with_it_and_wraps_nothing_afterwards
            a_rotation_remembers_its_key_its_trouble_and_its_end

            a_host_reads_back_as_itself
            each_session_has_a_higher_number_and_a_retired_host_none
            a_join_token_is_used_once
            revoked_certificates_are_listed_until_they_end
            of_two_compilers_one_publishes
            a_mark_made_meanwhile_is_not_taken_away
            a_floor_only_rises
            a_floor_is_confirmed_up_to_itself_in_one_life_and_until_it_rises
            a_report_of_an_older_session_is_not_kept
            a_journal_is_folded_only_forwards
        }
    };
}
pub(crate) use each_case;
