/*-------------------------------------------------------------------------
 *
 * ddl.h
 *	  Statements about incremental views and the tables that they read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef IVM_DDL_H
#define IVM_DDL_H

/* Installs the utility and object-access hooks. */
extern void ivm_ddl_init(void);

/* Installs the hook that recognises CREATE INCREMENTAL VIEW and its like. */
extern void ivm_statement_syntax_init(void);

/* True while a statement runs that was spelled like that. */
extern bool ivm_statement_is_literal(void);

#endif							/* IVM_DDL_H */
